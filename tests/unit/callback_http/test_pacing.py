"""Rates are kept exactly, and turns come at the pace of the destination."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.domain.pacing import (
    FARTHEST_MS,
    NO_PACE,
    PATIENCE,
    most_waiting,
    next_turn,
    pace_ms,
    reserve,
    took,
)


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


def test_those_sent_away_come_back_one_after_the_other_at_the_destination_s_pace() -> None:
    free_ms, at_ms = 0.0, []
    apart_ms = pace_ms(took(NO_PACE, 50.0), 10)
    for _ in range(5_000):
        not_before_ms, free_ms = next_turn(free_ms, 1_000, apart_ms, 0.5)
        at_ms.append(not_before_ms)
    assert at_ms[0] == 1_000
    assert at_ms == sorted(at_ms)
    assert at_ms[-1] == 1_000 + 4_999 * 5, "5,000 calls of 50 ms, ten at a time"


@given(st.floats(0, 300_000), st.integers(1, 100), st.floats(0, 1, exclude_max=True), st.integers(0, 300))
def test_no_turn_is_before_its_time_or_far_beyond(
    call_ms: float, concurrency: int, spread: float, before: int
) -> None:
    free_ms, apart_ms = 0.0, pace_ms(took(NO_PACE, call_ms), concurrency)
    for _ in range(before):
        _, free_ms = next_turn(free_ms, 7_000, apart_ms, spread)
    not_before_ms, _ = next_turn(free_ms, 7_000, apart_ms, spread)
    assert 7_000 <= not_before_ms <= 7_000 + FARTHEST_MS


@given(st.floats(1, 60_000), st.integers(1, 100), st.floats(0, 30))
def test_as_many_may_wait_as_are_served_in_time(call_ms: float, concurrency: int, wait_s: float) -> None:
    pace = NO_PACE
    for _ in range(1_000):
        pace = took(pace, call_ms)
    most = most_waiting(pace, concurrency, wait_s)
    last_waits_s = most * call_ms / concurrency / 1_000
    assert most == concurrency or last_waits_s <= PATIENCE * wait_s * 1.01 + 1e-9


def test_a_few_slow_calls_leave_room_and_a_few_that_hang_do_not() -> None:
    slow = hanging = NO_PACE
    for _ in range(8):
        slow, hanging = took(slow, 300.0), took(hanging, 15_000.0)
    assert most_waiting(slow, 8, 5.0) > 800
    assert most_waiting(hanging, 8, 5.0) < 50


def test_the_pace_follows_the_destination() -> None:
    pace = NO_PACE
    for _ in range(50):
        pace = took(pace, 2_000.0)
    assert pace_ms(pace, 1) == pytest.approx(2_000)
    for _ in range(50):
        pace = took(pace, 5.0)
    assert pace_ms(pace, 5) == pytest.approx(1, abs=0.1)
