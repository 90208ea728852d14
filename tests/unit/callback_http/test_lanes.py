"""Limits hold under any mixture of calls, waits, give-ups and cancellations, and nothing is left behind."""

import asyncio
import random
import time
from collections import Counter

import pytest

from services.callback.lanes import LANES_KEPT, RETURN_MS, UNRECORDED_SHARE, LaneLimits, Lanes, SentAwayError
from services.callback.loop_clock import LoopClock

LIMITS = LaneLimits(concurrency=3, queue=5, wait_s=0.02)


@pytest.mark.parametrize("seed", range(8))
async def test_no_limit_is_ever_passed_and_no_turn_lost(seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311 - a test's choice
    lanes = Lanes(total=7)
    running: Counter[str] = Counter()
    unrecorded: Counter[str] = Counter()
    most: Counter[str] = Counter()
    ends: Counter[str] = Counter()

    async def called(origin: str) -> None:
        try:
            await asyncio.sleep(chance.choice((0, 0.001, 0.01)))
        finally:
            running[origin] -= 1

    async def call(origin: str) -> None:
        try:
            async with lanes.turn(origin, LIMITS) as answered:
                unrecorded[origin] += 1
                running[origin] += 1
                most[origin] = max(most[origin], running[origin])
                most["all"] = max(most["all"], running.total())
                most["unrecorded"] = max(most["unrecorded"], unrecorded[origin])
                try:
                    await called(origin)
                    if chance.random() < 0.8:
                        answered()
                        await asyncio.sleep(chance.choice((0, 0.01, 0.05)))
                finally:
                    unrecorded[origin] -= 1
                ends["made"] += 1
        except SentAwayError:
            ends["sent away"] += 1

    tasks = []
    for _ in range(600):
        tasks.append(asyncio.create_task(call(chance.choice("abcde"))))
        if chance.random() < 0.3:
            chance.choice(tasks).cancel()
        if chance.random() < 0.2:
            await asyncio.sleep(chance.choice((0, 0.002)))
    await asyncio.gather(*tasks, return_exceptions=True)

    assert max(most[origin] for origin in "abcde") <= LIMITS.concurrency
    assert most["all"] <= 7
    assert LIMITS.concurrency < most["unrecorded"] <= LIMITS.concurrency * UNRECORDED_SHARE
    assert ends["made"] > 0
    assert ends["sent away"] > 0
    async with asyncio.timeout(1):
        for origin in "abcde":
            async with (
                lanes.turn(origin, LIMITS),
                lanes.turn(origin, LIMITS),
                lanes.turn(origin, LIMITS),
            ):
                """Every turn has been given back."""


async def test_a_call_that_fails_gives_its_turn_back() -> None:
    lanes = Lanes(total=1)
    with pytest.raises(RuntimeError):
        async with lanes.turn("a", LIMITS):
            raise RuntimeError
    async with lanes.turn("b", LIMITS):
        """It can be had."""


async def test_any_number_of_origins_takes_bounded_room() -> None:
    lanes = Lanes(total=10)
    async with lanes.turn("kept", LIMITS):
        for number in range(LANES_KEPT + 2_000):
            lanes.come_back_ms(f"origin-{number}", LIMITS, 10**15)
        assert len(lanes) <= LANES_KEPT + 1
        async with lanes.turn("kept", LIMITS), lanes.turn("kept", LIMITS):
            with pytest.raises(SentAwayError):
                async with lanes.turn("kept", LIMITS):
                    """A lane in use is never forgotten: its fourth call has to wait."""


async def test_a_call_that_hangs_spreads_the_turns_of_others_before_it_ends() -> None:
    lanes = Lanes(total=1)
    limits = LaneLimits(concurrency=1, queue=0, wait_s=1)
    not_before_ms = []
    async with lanes.turn("slow", limits):
        await asyncio.sleep(0.3)
        for _ in range(2):
            with pytest.raises(SentAwayError) as away:
                async with lanes.turn("slow", limits):
                    """There is no queue."""
            not_before_ms.append(away.value.not_before_ms)
    assert not_before_ms[1] - not_before_ms[0] >= 300


def test_those_who_come_back_to_a_destination_that_failed_do_not_come_at_once_nor_at_its_old_pace() -> None:
    lanes = Lanes(total=1)
    back_ms = [lanes.come_back_ms("failing", LIMITS, 10**12) for _ in range(5_000)]
    assert back_ms == sorted(back_ms)
    assert back_ms[-1] - back_ms[0] == pytest.approx(5_000 * RETURN_MS, abs=10)


async def _called(lanes: Lanes, limits: LaneLimits, call_s: float) -> bool:
    """Whether a call was made, rather than sent away."""
    try:
        async with lanes.turn("origin", limits) as answered:
            await asyncio.sleep(call_s)
            answered()
    except SentAwayError:
        return False
    return True


async def test_nobody_is_sent_away_from_a_long_queue_that_moves() -> None:
    """275 calls at once take twice as long as anybody would wait in a queue that stands."""
    lanes, limits = Lanes(total=100), LaneLimits(concurrency=10, queue=1_000, wait_s=0.25)
    begun = time.monotonic()
    made = await asyncio.gather(*(_called(lanes, limits, 0.02) for _ in range(275)))
    assert time.monotonic() - begun > 2 * limits.wait_s
    assert all(made)


async def test_all_are_sent_away_from_a_queue_that_stands_and_newcomers_at_once() -> None:
    lanes, limits = Lanes(total=100), LaneLimits(concurrency=1, queue=1_000, wait_s=0.3)
    async with lanes.turn("origin", limits):
        begun = time.monotonic()
        waiting = [asyncio.create_task(_called(lanes, limits, 0)) for _ in range(50)]
        await asyncio.sleep(limits.wait_s * 0.6)
        assert not await _called(lanes, limits, 0), "the first has waited for half the time, for nothing"
        assert time.monotonic() - begun < limits.wait_s * 0.95
        assert not any(await asyncio.gather(*waiting))
        assert time.monotonic() - begun >= limits.wait_s
    assert await _called(lanes, limits, 0), "nothing is left of those who were sent away"


async def test_a_queue_that_moves_too_slowly_sends_away_whom_it_will_not_serve_in_time() -> None:
    lanes, limits = Lanes(total=100), LaneLimits(concurrency=1, queue=1_000, wait_s=0.2)
    made = await asyncio.gather(*(_called(lanes, limits, 0.02) for _ in range(300)))
    served = made.count(True)
    assert 10 <= served <= 5 * limits.wait_s / 0.02 + 2
    assert made == [True] * served + [False] * (300 - served), "the last ones are sent away"


async def test_a_process_that_stood_still_does_not_blame_the_destination(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("services.callback.loop_clock.TICK_S", 0.01)
    monkeypatch.setattr("services.callback.loop_clock.STALL_S", 0.05)
    clock = LoopClock()
    ticking = asyncio.create_task(clock.run())
    lanes, limits = Lanes(total=100, clock_s=clock.now_s), LaneLimits(concurrency=2, queue=100, wait_s=0.5)
    calls = [asyncio.create_task(_called(lanes, limits, 0.03)) for _ in range(10)]
    await asyncio.sleep(0.02)
    time.sleep(1.0)  # noqa: ASYNC251 - the loop stands still
    assert all(await asyncio.gather(*calls))
    ticking.cancel()


async def test_the_clock_of_a_loop_that_ticks_is_the_monotonic_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.callback.loop_clock.TICK_S", 0.01)
    clock = LoopClock()
    ticking = asyncio.create_task(clock.run())
    began_s, real_s = clock.now_s(), time.monotonic()
    await asyncio.sleep(0.2)
    assert clock.now_s() - began_s == pytest.approx(time.monotonic() - real_s, abs=0.01)
    time.sleep(0.8)  # noqa: ASYNC251 - the loop stands still
    assert clock.now_s() - began_s == pytest.approx(time.monotonic() - real_s - 0.5, abs=0.1)
    ticking.cancel()
