"""`delivered` absorbs, repeats are refused, and every attempt leads to exactly one continuation."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from shared.domain.callbacks import (
    EMPTY_CALLBACK,
    CallbackDeadLettered,
    CallbackDiscarded,
    CallbackEvent,
    CallbackReplayed,
    CallbackState,
    CallbackStatus,
    Delivery,
    FailedAttempt,
    SuccessfulAttempt,
    evolve,
)
from shared.domain.delivering import (
    ATTEMPTS_KEPT,
    Abandon,
    Delivered,
    Refusal,
    TryAgain,
    decide_attempt,
    decide_delivery,
)
from shared.domain.retry_policy import ErrorClass, RetryPolicy
from shared.domain.types import JsonText, Mode, RequestId, facts_of

POLICY = RetryPolicy(ladder_ms=(10, 20))
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
FAILURE = FailedAttempt(error_class=ErrorClass.HTTP_5XX, at_ms=100, duration_ms=1.0, status=500)
SUCCESS = SuccessfulAttempt(status=204, at_ms=100, duration_ms=1.0)


def _climb() -> list[TryAgain | Abandon | Delivered]:
    steps: list[TryAgain | Abandon | Delivered] = []
    delivery = DELIVERY
    while True:
        step = decide_attempt(delivery, FAILURE, POLICY, jitter=0.0)
        steps.append(step)
        if not isinstance(step, TryAgain):
            return steps
        delivery = step.postponed


def test_a_failing_delivery_climbs_and_becomes_a_dead_letter() -> None:
    first, second, last = _climb()
    assert isinstance(first, TryAgain)
    assert isinstance(second, TryAgain)
    assert isinstance(last, Abandon)
    assert [first.postponed.not_before_ms, second.postponed.not_before_ms] == [110, 120]
    assert [summary.attempt for summary in last.letter.delivery.history] == [1, 2, 3]
    assert last.letter.delivery.first_failed_at_ms == 100
    assert isinstance(last.facts[1], CallbackDeadLettered)
    assert last.facts[1].attempts == 3


def test_history_is_bounded() -> None:
    delivery = DELIVERY
    for _ in range(3):
        for _ in range(ATTEMPTS_KEPT):
            step = decide_attempt(replace(delivery, attempt=1), FAILURE, POLICY, jitter=0.0)
            assert isinstance(step, TryAgain)
            delivery = step.postponed
    assert len(delivery.history) == ATTEMPTS_KEPT


def _facts() -> list[CallbackEvent]:
    delivered = decide_attempt(DELIVERY, SUCCESS, POLICY, jitter=0)
    retried = decide_attempt(DELIVERY, FAILURE, POLICY, jitter=0)
    abandoned = decide_attempt(replace(DELIVERY, attempt=3), FAILURE, POLICY, jitter=0)
    assert isinstance(delivered, Delivered)
    assert isinstance(retried, TryAgain)
    assert isinstance(abandoned, Abandon)
    facts = facts_of(DELIVERY)
    return [
        delivered.fact,
        retried.fact,
        *abandoned.facts,
        CallbackReplayed(**facts, letter="l", replayed_by="me", reason="r", at_ms=1, replay_count=1),
        CallbackDiscarded(**facts, letter="l", discarded_by="me", reason="r", at_ms=1),
    ]


FACTS = _facts()


@given(st.lists(st.sampled_from(FACTS), max_size=10))
def test_nothing_follows_delivered(events: list[CallbackEvent]) -> None:
    state = evolve(EMPTY_CALLBACK, FACTS[0])
    for event in events:
        state = evolve(state, event)
    assert state.status is CallbackStatus.DELIVERED
    assert decide_delivery(state, DELIVERY) is Refusal.SETTLED
    assert decide_delivery(state, replace(DELIVERY, replay_count=9)) is Refusal.SETTLED


def test_a_repeated_attempt_is_stale_and_the_next_one_is_not() -> None:
    state = CallbackState(status=CallbackStatus.RETRYING, attempts=2)
    assert decide_delivery(state, replace(DELIVERY, attempt=2)) is Refusal.STALE
    assert decide_delivery(state, replace(DELIVERY, attempt=3)) is None


def test_a_replay_opens_a_given_up_delivery_once() -> None:
    given_up = CallbackState(status=CallbackStatus.FAILED, attempts=3)
    assert decide_delivery(given_up, DELIVERY) is Refusal.SETTLED
    assert decide_delivery(given_up, replace(DELIVERY, replay_count=1)) is None
    replayed = evolve(given_up, FACTS[4])
    assert decide_delivery(replayed, replace(DELIVERY, replay_count=1)) is None
    assert decide_delivery(replayed, DELIVERY) is Refusal.STALE
