"""Every error class at every attempt has one verdict, and no retry is ever early."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.domain.retry_policy import (
    DEFAULT_DEFERRALS_MS,
    DEFAULT_LADDER_MS,
    DeferralPolicy,
    ErrorClass,
    GiveUp,
    GiveUpReason,
    Retry,
    RetryPolicy,
    classify_status,
    decide_retry,
    deferral_ms,
)

NOW_MS = 1_000_000
TERMINAL = {
    ErrorClass.HTTP_4XX: GiveUpReason.TERMINAL,
    ErrorClass.HTTP_3XX: GiveUpReason.TERMINAL,
    ErrorClass.HTTP_410: GiveUpReason.GONE,
    ErrorClass.FORBIDDEN: GiveUpReason.FORBIDDEN,
    ErrorClass.ABORTED: GiveUpReason.ABORTED,
}
HEALABLE = [error_class for error_class in ErrorClass if error_class not in TERMINAL]


@pytest.mark.parametrize("error_class", list(TERMINAL))
@pytest.mark.parametrize("attempt", [1, 2, 7])
def test_what_cannot_heal_is_given_up_at_once(error_class: ErrorClass, attempt: int) -> None:
    verdict = decide_retry(RetryPolicy(), error_class, attempt=attempt, now_ms=NOW_MS, jitter=0.5)
    assert verdict == GiveUp(TERMINAL[error_class])


@pytest.mark.parametrize("error_class", HEALABLE)
def test_what_can_heal_climbs_the_ladder_and_then_is_exhausted(error_class: ErrorClass) -> None:
    verdicts = [
        decide_retry(RetryPolicy(), error_class, attempt=attempt, now_ms=NOW_MS, jitter=0.0)
        for attempt in range(1, len(DEFAULT_LADDER_MS) + 2)
    ]
    assert verdicts == [
        *(Retry(NOW_MS + delay) for delay in DEFAULT_LADDER_MS),
        GiveUp(GiveUpReason.EXHAUSTED),
    ]


@given(
    error_class=st.sampled_from(HEALABLE),
    attempt=st.integers(1, 6),
    jitter=st.floats(0, 1, exclude_max=True),
    retry_after_ms=st.none() | st.integers(0, 10**12),
)
def test_a_retry_is_never_early_and_never_beyond_the_caps(
    error_class: ErrorClass, attempt: int, jitter: float, retry_after_ms: int | None
) -> None:
    policy = RetryPolicy()
    verdict = decide_retry(
        policy,
        error_class,
        attempt=attempt,
        now_ms=NOW_MS,
        jitter=jitter,
        retry_after_ms=retry_after_ms,
    )
    assert isinstance(verdict, Retry)
    asked_ms = min(retry_after_ms or 0, policy.retry_after_cap_ms)
    earliest = NOW_MS + max(DEFAULT_LADDER_MS[attempt - 1], asked_ms)
    assert earliest <= verdict.not_before_ms <= earliest + 5_000


def test_a_class_can_have_a_ladder_of_its_own() -> None:
    policy = RetryPolicy(ladders={ErrorClass.DNS: (7,)})
    assert decide_retry(policy, ErrorClass.DNS, attempt=1, now_ms=0, jitter=0) == Retry(7)
    assert decide_retry(policy, ErrorClass.DNS, attempt=2, now_ms=0, jitter=0) == GiveUp(
        GiveUpReason.EXHAUSTED
    )


@given(jitter=st.floats(0, 1, exclude_max=True), asked=st.none() | st.integers(0, 10**9))
def test_the_worst_case_bounds_every_climb(jitter: float, asked: int | None) -> None:
    policy = RetryPolicy(ladder_ms=(10, 100_000), retry_after_cap_ms=200_000)
    now_ms = 0
    for attempt in (1, 2):
        verdict = decide_retry(
            policy,
            ErrorClass.HTTP_5XX,
            attempt=attempt,
            now_ms=now_ms,
            jitter=jitter,
            retry_after_ms=asked,
        )
        assert isinstance(verdict, Retry)
        now_ms = verdict.not_before_ms
    assert now_ms <= policy.worst_case_ms()


@pytest.mark.parametrize("error_class", list(ErrorClass))
@pytest.mark.parametrize("attempt", range(1, len(DEFAULT_LADDER_MS) + 3))
@pytest.mark.parametrize("hint_ms", [None, 0, 1, 999, 60_000, 3_600_000, 10**12])
def test_every_class_at_every_attempt_with_every_hint(
    error_class: ErrorClass, attempt: int, hint_ms: int | None
) -> None:
    """The whole table: terminal whatever is asked, exhausted whatever is asked, else the longer wait."""
    policy = RetryPolicy()
    verdict = decide_retry(
        policy, error_class, attempt=attempt, now_ms=NOW_MS, jitter=0.0, retry_after_ms=hint_ms
    )
    if error_class in TERMINAL:
        assert verdict == GiveUp(TERMINAL[error_class])
    elif attempt > len(DEFAULT_LADDER_MS):
        assert verdict == GiveUp(GiveUpReason.EXHAUSTED)
    else:
        asked_ms = min(hint_ms or 0, policy.retry_after_cap_ms)
        assert verdict == Retry(NOW_MS + max(DEFAULT_LADDER_MS[attempt - 1], asked_ms))


def test_the_worst_case_is_that_of_failures_of_different_classes() -> None:
    """One class may have the longer ladder, another the longer rungs, and a delivery fail by both."""
    policy = RetryPolicy(ladder_ms=(10, 10, 10), ladders={ErrorClass.DNS: (1_000,)}, retry_after_cap_ms=0)
    assert policy.worst_case_ms() == 1_100 + 11 + 11
    assert policy.most_attempts() == 4


@given(deferrals=st.integers(0, 10**6), asked_ms=st.integers(0, 10**9))
def test_a_deferral_waits_for_its_step_and_for_what_was_asked(deferrals: int, asked_ms: int) -> None:
    step_ms = DEFAULT_DEFERRALS_MS[min(deferrals, len(DEFAULT_DEFERRALS_MS) - 1)]
    assert deferral_ms(DeferralPolicy(), deferrals, asked_ms) == max(step_ms, asked_ms)


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (200, None),
        (204, None),
        (299, None),
        (101, ErrorClass.PROTOCOL),
        (301, ErrorClass.HTTP_3XX),
        (400, ErrorClass.HTTP_4XX),
        (408, ErrorClass.HTTP_RETRYABLE_4XX),
        (425, ErrorClass.HTTP_RETRYABLE_4XX),
        (410, ErrorClass.HTTP_410),
        (429, ErrorClass.HTTP_429),
        (500, ErrorClass.HTTP_5XX),
        (599, ErrorClass.HTTP_5XX),
        (600, ErrorClass.PROTOCOL),
    ],
)
def test_statuses_have_one_class(status: int, expected: ErrorClass | None) -> None:
    assert classify_status(status) is expected
