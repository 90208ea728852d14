"""Any wait fits the tiers: nothing is early, nothing is late by itself, and hops are few."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.domain.delay import LAST_WAIT_MS, Due, Hop, WaitUntil, next_step, parse_schedule, pick_tier
from shared.domain.retry_policy import with_jitter

TIERS = (1_000, 5_000, 30_000, 120_000, 600_000, 3_600_000)
waits = st.integers(-1_000, 2 * 24 * 3_600_000)


def _walk(wait_ms: int, transit_ms: int) -> tuple[int, int]:
    """When a delivery that is due at `wait_ms` fires, and after how many hops, on an idle machine."""
    now_ms = appended_ms = 0
    delay_ms = pick_tier(TIERS, wait_ms)
    hops = 0
    while True:
        step = next_step(
            not_before_ms=wait_ms, appended_ms=appended_ms, delay_ms=delay_ms, now_ms=now_ms + transit_ms
        )
        now_ms += transit_ms
        match step:
            case Due():
                return now_ms, hops
            case WaitUntil(at_ms):
                assert at_ms > now_ms
                now_ms = at_ms - transit_ms
            case Hop(remainder_ms):
                assert remainder_ms > LAST_WAIT_MS
                delay_ms, appended_ms, hops = pick_tier(TIERS, remainder_ms), now_ms, hops + 1


@given(waits, st.integers(0, 200))
def test_a_delivery_fires_when_it_is_due_and_never_before(wait_ms: int, transit_ms: int) -> None:
    fired_ms, _ = _walk(wait_ms, transit_ms)
    assert max(wait_ms, 0) <= fired_ms <= max(wait_ms, 0) + transit_ms


@given(st.integers(0, 24 * 3_600_000))
def test_hops_are_few(wait_ms: int) -> None:
    _, hops = _walk(wait_ms, 5)
    assert hops <= wait_ms // 3_600_000 + sum(after // before for before, after in pairwise(TIERS))


@pytest.mark.parametrize("delay_ms", TIERS)
def test_what_waits_for_a_tier_s_own_delay_and_its_jitter_does_not_hop_to_another_tier(delay_ms: int) -> None:
    assert _walk(with_jitter(delay_ms, 1.0), 5)[1] == 0


@given(
    remainder_ms=st.integers(-1_000, 20_000) | waits,
    waited_ms=st.integers(0, 2 * 3_600_000),
    delay_ms=st.sampled_from(TIERS),
)
def test_a_record_never_holds_its_tier_longer_than_the_delay_and_the_last_wait(
    remainder_ms: int, waited_ms: int, delay_ms: int
) -> None:
    """So a tier stays first in, first out, and a bounded memory suffices."""
    now_ms = 10**9
    step = next_step(
        not_before_ms=now_ms + remainder_ms,
        appended_ms=now_ms - waited_ms,
        delay_ms=delay_ms,
        now_ms=now_ms,
    )
    match step:
        case Due():
            assert remainder_ms <= 0
        case WaitUntil(at_ms):
            assert now_ms < at_ms <= now_ms + max(delay_ms - waited_ms, LAST_WAIT_MS)
        case Hop():
            assert waited_ms >= delay_ms
            assert remainder_ms > LAST_WAIT_MS


@given(st.sets(st.integers(1, 10**7), min_size=1), st.integers(-(10**6), 10**8))
def test_the_tier_is_the_longest_that_fits(delays_ms: set[int], remainder_ms: int) -> None:
    picked = pick_tier(delays_ms, remainder_ms)
    fitting = [each for each in delays_ms if each <= remainder_ms]
    assert picked == (max(fitting) if fitting else min(delays_ms))


def test_schedules_are_read() -> None:
    assert parse_schedule("1s,5s, 30s,2m,10m,1h,1d,250ms,1.5s") == (
        1_000,
        5_000,
        30_000,
        120_000,
        600_000,
        3_600_000,
        86_400_000,
        250,
        1_500,
    )
    assert parse_schedule(" ") == ()


@pytest.mark.parametrize("text", ["5", "s", "-1s", "0s", "1s,,2s", "1w", "1 s", "1s;2s", "nan s", "1e3s"])
def test_what_is_no_schedule_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match="such as 30s"):
        parse_schedule(text)
