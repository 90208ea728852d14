"""Limits hold under any mixture of calls, waits, give-ups and cancellations, and nothing is left behind."""

import asyncio
import random
from collections import Counter

import pytest

from services.callback.lanes import LANES_KEPT, UNRECORDED_SHARE, LaneLimits, Lanes, SentAwayError

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
    async with lanes.turn("slow", limits):
        await asyncio.sleep(0.3)
        first_ms, second_ms = (lanes.come_back_ms("slow", limits, 10**15) for _ in range(2))
    assert second_ms - first_ms >= 300
