"""The circuit breaker's laws, in every order of admissions, ends and times."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.domain.breaker import (
    CLOSED,
    Admitted,
    Breaker,
    BreakerPolicy,
    Refused,
    Signal,
    admission,
    hold,
    origin_signal,
    settle,
    start_probe,
    url_signal,
)
from shared.domain.retry_policy import ErrorClass

POLICY = BreakerPolicy(failures=3, open_ms=1_000, max_open_ms=4_000, probe_ms=10_000)


def opened(now_ms: int = 0) -> Breaker:
    breaker = CLOSED
    for _ in range(POLICY.failures):
        breaker = settle(breaker, Signal.BAD, POLICY, now_ms)
    return breaker


def test_failures_in_a_row_open_it() -> None:
    one = settle(CLOSED, Signal.BAD, POLICY, 0)
    two = settle(one, Signal.BAD, POLICY, 0)
    assert admission(two, 0) == Admitted()
    assert settle(two, Signal.GOOD, POLICY, 0) == CLOSED
    assert admission(settle(two, Signal.BAD, POLICY, 0), 999) == Refused(1_000)


def test_what_was_under_way_when_it_opened_changes_nothing() -> None:
    breaker = opened()
    assert settle(breaker, Signal.GOOD, POLICY, 10) == breaker
    assert settle(breaker, Signal.BAD, POLICY, 10) == breaker


def test_one_probe_goes_through_and_decides() -> None:
    breaker = opened()
    assert admission(breaker, 1_000) == Admitted(probe=True)
    probing = start_probe(breaker, POLICY, 1_000)
    assert admission(probing, 1_001) == Refused(1_001)
    assert settle(probing, Signal.GOOD, POLICY, 1_500, probe=True) == CLOSED
    again = settle(probing, Signal.BAD, POLICY, 1_500, probe=True)
    assert admission(again, 3_499) == Refused(3_500), "the second time twice as long"


def test_a_probe_that_came_to_nothing_lets_another_one_go() -> None:
    probing = start_probe(opened(), POLICY, 1_000)
    given_back = settle(probing, Signal.NONE, POLICY, 1_001, probe=True)
    assert admission(given_back, 1_001) == Admitted(probe=True)
    assert admission(probing, 11_000) == Admitted(probe=True), "lost"


def test_it_stays_open_ever_longer_up_to_a_bound() -> None:
    assert [POLICY.open_for_ms(trips) for trips in (1, 2, 3, 4, 1_000)] == [1_000, 2_000, 4_000, 4_000, 4_000]


def test_a_receiver_that_asks_for_time_gets_it() -> None:
    held = hold(CLOSED, 5_000)
    assert admission(held, 4_999) == Refused(5_000)
    assert admission(held, 5_000) == Admitted(probe=True)
    assert hold(opened(), 500).open_until_ms == 1_000, "never shorter than it is"


STEPS = st.lists(
    st.tuples(st.sampled_from([*Signal, None]), st.integers(0, 3_000), st.integers(0, 8_000)), max_size=60
)


@given(STEPS)
def test_there_is_never_more_than_one_probe_and_it_always_comes_back(
    steps: list[tuple[Signal | None, int, int]],
) -> None:
    """Calls begin and end in any order; `None` has the receiver ask for time."""
    breaker, now_ms = CLOSED, 0
    probing_since: int | None = None
    for signal, pause_ms, asked_ms in steps:
        now_ms += pause_ms
        admitted = admission(breaker, now_ms)
        if isinstance(admitted, Admitted) and admitted.probe:
            assert probing_since is None or now_ms >= probing_since + POLICY.probe_ms
            breaker, probing_since = start_probe(breaker, POLICY, now_ms), now_ms
        if signal is None:
            breaker, probing_since = hold(breaker, now_ms + asked_ms), None
        else:
            breaker = settle(breaker, signal, POLICY, now_ms, probe=probing_since is not None)
            probing_since = None
        if isinstance(admission(breaker, now_ms), Refused):
            later_ms = now_ms + max(POLICY.max_open_ms, POLICY.probe_ms, 8_000)
            assert isinstance(admission(breaker, later_ms), Admitted)


@pytest.mark.parametrize("error_class", [*ErrorClass, None])
def test_every_class_speaks_against_the_origin_or_the_url_but_never_both(
    error_class: ErrorClass | None,
) -> None:
    signals = (origin_signal(error_class), url_signal(error_class))
    assert signals.count(Signal.BAD) <= 1
    assert (error_class is None) <= (signals == (Signal.GOOD, Signal.GOOD))


@pytest.mark.parametrize("error_class", [each for each in ErrorClass if each.startswith("http_")])
def test_no_answer_of_one_path_speaks_against_a_shared_host(error_class: ErrorClass) -> None:
    assert origin_signal(error_class) is Signal.GOOD
