"""What cannot be attempted waits unspent, not for ever; what is known to be done is not done again."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.domain.callbacks import (
    EMPTY_CALLBACK,
    CallbackAttempted,
    CallbackDeadLettered,
    CallbackReplayed,
    CallbackState,
    CallbackStatus,
    Delivery,
    FailedAttempt,
    evolve,
)
from shared.domain.delay import LAST_WAIT_MS
from shared.domain.delivering import (
    MESSAGE_KEPT,
    Abandon,
    Defer,
    Refusal,
    TryAgain,
    decide_attempt,
    decide_deferral,
    decide_delivery,
    decide_disabled,
    expect,
)
from shared.domain.retry_policy import DeferralPolicy, ErrorClass, GiveUpReason, RetryPolicy, deferral_ms
from shared.domain.types import JsonText, Mode, RequestId, facts_of

DELIVERY = Delivery(
    request_id=RequestId("00000000-0000-0000-0000-000000000001"),
    mode=Mode.ASYNC,
    source="rest",
    operation="primes",
    accepted_at_ms=1,
    url="http://receiver/x",
    webhook_id="00000000-0000-0000-0000-000000000001",
    body=JsonText("{}"),
    origin="consuma.results-0-1",
)
POLICY = DeferralPolicy(ladder_ms=(1_000, 5_000), limit_ms=60_000)
FAILURE = FailedAttempt(error_class=ErrorClass.HTTP_5XX, at_ms=100, duration_ms=1.0, status=500)


def _defer(delivery: Delivery, now_ms: int, *, delay_ms: int = 1_000, jitter: float = 0.0) -> Defer | Abandon:
    return decide_deferral(delivery, POLICY, "breaker_open", now_ms=now_ms, delay_ms=delay_ms, jitter=jitter)


def test_deferrals_wait_in_their_tier_and_spend_no_attempt() -> None:
    first = _defer(DELIVERY, 10)
    assert isinstance(first, Defer)
    assert (first.postponed.not_before_ms, first.postponed.attempt, first.delay_ms) == (1_010, 1, 1_000)
    second = _defer(first.postponed, 2_000, delay_ms=5_000)
    assert isinstance(second, Defer)
    assert (second.postponed.not_before_ms, second.postponed.deferrals) == (7_000, 2)
    assert second.postponed.deferred_since_ms == 10
    assert second.postponed.history == ()


@pytest.mark.parametrize("delay_ms", [1_000, 5_000, 30_000, 120_000, 600_000, 3_600_000])
def test_a_deferral_is_one_append_its_jitter_is_waited_out_in_memory(delay_ms: int) -> None:
    step = _defer(DELIVERY, 0, delay_ms=delay_ms, jitter=0.999)
    assert isinstance(step, Defer)
    assert 0 < step.postponed.not_before_ms - delay_ms < LAST_WAIT_MS


def test_waits_for_a_destination_that_is_down_grow() -> None:
    assert [deferral_ms(POLICY, deferrals, 3_000) for deferrals in range(4)] == [3_000, 5_000, 5_000, 5_000]


@given(jitter=st.floats(0, 1, exclude_max=True), delay_ms=st.sampled_from([1_000, 30_000, 3_600_000]))
def test_what_can_never_be_attempted_is_given_up_within_the_worst_case(jitter: float, delay_ms: int) -> None:
    delivery, now_ms = DELIVERY, 0
    while isinstance(step := _defer(delivery, now_ms, delay_ms=delay_ms, jitter=jitter), Defer):
        delivery = step.postponed
        assert delivery.not_before_ms > now_ms
        now_ms = delivery.not_before_ms
    assert now_ms <= POLICY.worst_case_ms()
    assert step.letter.reason is GiveUpReason.UNAVAILABLE
    assert step.letter.delivery.attempt == 1
    (fact,) = step.facts
    assert isinstance(fact, CallbackDeadLettered)
    assert fact.attempts == 0


def test_an_attempt_ends_the_deferral() -> None:
    deferred = _defer(DELIVERY, 10)
    assert isinstance(deferred, Defer)
    tried = decide_attempt(deferred.postponed, FAILURE, RetryPolicy(), jitter=0)
    assert isinstance(tried, TryAgain)
    assert (tried.postponed.deferrals, tried.postponed.deferred_since_ms) == (0, None)


def test_a_disabled_destination_gets_a_letter_and_no_attempt() -> None:
    tried = decide_attempt(DELIVERY, FAILURE, RetryPolicy(), jitter=0)
    assert isinstance(tried, TryAgain)
    abandoned = decide_disabled(tried.postponed, "disabled since noon", now_ms=500)
    assert (abandoned.letter.reason, abandoned.letter.message) == (
        GiveUpReason.DISABLED,
        "disabled since noon",
    )
    assert (abandoned.letter.last_failed_at_ms, abandoned.letter.dead_lettered_at_ms) == (100, 500)
    (fact,) = abandoned.facts
    assert isinstance(fact, CallbackDeadLettered)
    assert fact.attempts == 1


def test_a_given_up_delivery_s_facts_tell_of_the_last_attempt_first() -> None:
    step = decide_attempt(replace(DELIVERY, attempt=9), FAILURE, RetryPolicy(), jitter=0)
    assert isinstance(step, Abandon)
    assert [type(fact) for fact in step.facts] == [CallbackAttempted, CallbackDeadLettered]
    assert step.letter.delivery.history[-1].attempt == 9


def test_long_messages_are_cut() -> None:
    step = decide_attempt(DELIVERY, replace(FAILURE, message="x" * 10_000), RetryPolicy(), jitter=0)
    assert isinstance(step, TryAgain)
    assert len(step.fact.message) == len(step.postponed.history[0].message) == MESSAGE_KEPT


REPLAYED = CallbackReplayed(
    **facts_of(DELIVERY), letter="l", replayed_by="me", reason="r", at_ms=1, replay_count=1
)


def test_a_replay_s_own_repeats_are_known_even_if_its_fact_was_never_seen() -> None:
    given_up = CallbackState(status=CallbackStatus.FAILED, attempts=7)
    replayed = replace(DELIVERY, replay_count=1)
    assert expect(given_up, replayed) == evolve(given_up, REPLAYED)
    tried = decide_attempt(replayed, FAILURE, RetryPolicy(), jitter=0)
    assert isinstance(tried, TryAgain)
    state = evolve(expect(given_up, replayed), tried.fact)
    assert decide_delivery(state, replayed) is Refusal.STALE
    assert decide_delivery(state, tried.postponed) is None


def test_of_two_copies_of_what_was_put_off_one_goes_on() -> None:
    """An append that was repeated for want of an acknowledgement may have written it twice."""
    first, second = replace(DELIVERY, deferrals=1), replace(DELIVERY, deferrals=2)
    state = expect(expect(EMPTY_CALLBACK, second), first)
    assert decide_delivery(state, DELIVERY) is Refusal.STALE
    assert decide_delivery(state, first) is Refusal.STALE
    assert decide_delivery(state, second) is None
    assert decide_delivery(state, replace(DELIVERY, deferrals=3)) is None


def test_deferrals_are_counted_anew_for_every_attempt_and_replay() -> None:
    put_off = expect(EMPTY_CALLBACK, replace(DELIVERY, deferrals=7))
    tried = decide_attempt(DELIVERY, FAILURE, RetryPolicy(), jitter=0)
    assert isinstance(tried, TryAgain)
    assert decide_delivery(evolve(put_off, tried.fact), tried.postponed) is None
    assert decide_delivery(evolve(put_off, REPLAYED), replace(DELIVERY, replay_count=1)) is None
    assert decide_delivery(put_off, replace(DELIVERY, replay_count=1)) is None


@pytest.mark.parametrize("replay_count", [0, 1, 5])
def test_delivered_is_delivered_whatever_is_replayed(replay_count: int) -> None:
    delivered = CallbackState(status=CallbackStatus.DELIVERED)
    delivery = replace(DELIVERY, replay_count=replay_count)
    assert expect(delivered, delivery) is delivered
    assert decide_delivery(delivered, delivery) is Refusal.SETTLED


def test_a_delivery_nobody_knows_of_is_made() -> None:
    assert decide_delivery(EMPTY_CALLBACK, DELIVERY) is None
    assert decide_delivery(EMPTY_CALLBACK, replace(DELIVERY, attempt=4, replay_count=2)) is None
