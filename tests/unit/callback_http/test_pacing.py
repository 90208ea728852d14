"""Rates are kept exactly, and turns to come back are given out one by one, however many ask."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from shared.domain.pacing import AT_ONCE, LONGEST_ASKED_MS, RETURN_MS, next_return, reserve

DELAYS = (1_000, 5_000, 30_000, 120_000, 600_000, 3_600_000)


@given(st.lists(st.integers(0, 500), max_size=50), st.sampled_from([0.5, 3.0, 100.0]))
def test_calls_are_never_closer_than_the_rate_allows_nor_later_than_they_must(
    pauses: list[int], rate: float
) -> None:
    now_ms, free_ms, begun = 0.0, 0.0, []
    for pause in pauses:
        now_ms += pause
        wait_ms, free_ms = reserve(free_ms, now_ms, rate)
        assert wait_ms >= 0
        begun.append(now_ms + wait_ms)
    for earlier, later in pairwise(begun):
        assert later - earlier >= 1_000 / rate - 1e-6
    assert not begun or begun[0] == pauses[0]


@given(st.integers(0, 10**8))
def test_a_single_one_comes_back_by_the_longest_delay_that_fits_two_minutes_at_most(wait_ms: int) -> None:
    delay_ms, _ = next_return({}, DELAYS, wait_ms, 5.0)
    fitting = [each for each in DELAYS if each <= min(wait_ms, LONGEST_ASKED_MS)]
    assert delay_ms == max(fitting, default=DELAYS[0])


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 200_000)), max_size=400))
def test_no_delay_but_the_longest_has_more_come_back_than_its_turns(asked: list[tuple[int, int]]) -> None:
    free_ms: dict[int, float] = {}
    given_out: dict[int, list[float]] = {delay_ms: [] for delay_ms in DELAYS}
    now_ms = 0.0
    for pause_ms, wait_ms in asked:
        now_ms += pause_ms
        delay_ms, free_ms[delay_ms] = next_return(free_ms, DELAYS, wait_ms, now_ms)
        given_out[delay_ms].append(now_ms)
    for delay_ms, times_ms in given_out.items():
        if delay_ms != DELAYS[-1] and times_ms:
            assert (len(times_ms) - 1) * RETURN_MS <= times_ms[-1] - times_ms[0] + delay_ms * AT_ONCE + 1e-6
