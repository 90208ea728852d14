"""Limits hold under any mixture of calls, waits, give-ups and cancellations, and nothing is left behind."""

import asyncio
import random
import time
from collections import Counter
from contextlib import AbstractAsyncContextManager

import pytest

from services.callback.lane import UNRECORDED_SHARE, LaneLimits, Room
from services.callback.lanes import LANES_KEPT, RETURN_MS, Lanes, SentAwayError
from shared.kafka.handler import ReleaseRecord


class Steady:
    """A clock of a process that is never late, unless it is told to be."""

    is_behind = False

    def now_s(self) -> float:
        return time.monotonic()


def open_lanes(total: int = 100) -> Lanes:
    return Lanes(total, Room(1_000_000, 1_000_000), Steady())


LIMITS = LaneLimits(concurrency=3, queue=5, wait_s=0.02)


@pytest.mark.parametrize("seed", range(8))
async def test_no_limit_is_ever_passed_and_no_turn_lost(seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311 - a test's choice
    lanes = open_lanes(7)
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
    lanes = open_lanes(1)
    with pytest.raises(RuntimeError):
        async with lanes.turn("a", LIMITS):
            raise RuntimeError
    async with lanes.turn("b", LIMITS):
        """It can be had."""


async def test_any_number_of_origins_takes_bounded_room() -> None:
    lanes = open_lanes(10)
    async with lanes.turn("kept", LIMITS):
        for number in range(LANES_KEPT + 2_000):
            lanes.come_back_ms(f"origin-{number}", LIMITS, 10**15)
        assert len(lanes) <= LANES_KEPT + 1
        async with lanes.turn("kept", LIMITS), lanes.turn("kept", LIMITS):
            with pytest.raises(SentAwayError):
                async with lanes.turn("kept", LIMITS):
                    """A lane in use is never forgotten: its fourth call has to wait."""


async def test_a_call_that_hangs_spreads_the_turns_of_others_before_it_ends() -> None:
    lanes = open_lanes(1)
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
    lanes = open_lanes(1)
    back_ms = [lanes.come_back_ms("failing", LIMITS, 10**12) for _ in range(5_000)]
    assert back_ms == sorted(back_ms)
    assert back_ms[-1] - back_ms[0] == pytest.approx(5_000 * RETURN_MS, abs=10)


async def _called(lanes: Lanes, limits: LaneLimits, call_s: float = 0.0, partition: int = 0) -> bool:
    """Whether a call was made, rather than sent away."""
    try:
        async with lanes.turn("origin", limits, partition=partition, size=100) as answered:
            await asyncio.sleep(call_s)
            answered()
    except SentAwayError:
        return False
    return True


async def _burst(limits: LaneLimits, count: int) -> tuple[list[bool], float]:
    """Which of `count` calls of 20 ms at once are made, by lanes that know quick ones, and the seconds."""
    lanes = open_lanes()
    for _ in range(100):
        await _called(lanes, limits)
    begun = time.monotonic()
    made = await asyncio.gather(*(_called(lanes, limits, 0.02) for _ in range(count)))
    return made, time.monotonic() - begun


async def test_nobody_is_sent_away_from_a_queue_that_moves() -> None:
    limits = LaneLimits(concurrency=10, queue=1_000, wait_s=0.25)
    made, took_s = await _burst(limits, 140)
    assert took_s > limits.wait_s, "the last have waited longer than in a queue that stands"
    assert all(made)


async def test_all_are_sent_away_from_a_queue_that_stands() -> None:
    lanes, limits = open_lanes(), LaneLimits(concurrency=1, queue=1_000, wait_s=0.2)
    async with lanes.turn("origin", limits):
        begun = time.monotonic()
        assert not any(await asyncio.gather(*(_called(lanes, limits) for _ in range(50))))
        assert limits.wait_s <= time.monotonic() - begun
    assert await _called(lanes, limits), "nothing is left of those who were sent away"


async def test_a_queue_that_moves_too_slowly_sends_away_whom_it_will_not_serve_in_time() -> None:
    limits = LaneLimits(concurrency=1, queue=1_000, wait_s=0.2)
    made, took_s = await _burst(limits, 300)
    assert all(made[:3])
    assert made.count(False) > 150
    assert took_s < limits.longest_wait_s + limits.wait_s


@pytest.mark.parametrize("wait_s", [0.0, 0.05])
async def test_a_queue_that_waits_for_the_log_sends_nobody_away(wait_s: float) -> None:
    """The receiver is well and idle: to put the others off would need the same log."""
    lanes, limits = open_lanes(), LaneLimits(concurrency=1, queue=1, wait_s=wait_s)
    recorded = asyncio.Event()

    async def unrecorded() -> None:
        async with lanes.turn("origin", limits) as answered:
            answered()
            await recorded.wait()

    stuck = [asyncio.create_task(unrecorded()) for _ in range(UNRECORDED_SHARE)]
    waiting = [asyncio.create_task(_called(lanes, limits)) for _ in range(20)]
    await asyncio.sleep(0.4)
    assert not any(task.done() for task in waiting)
    recorded.set()
    assert all(await asyncio.gather(*waiting))
    await asyncio.gather(*stuck)


async def test_what_waits_leaves_room_in_the_window_of_every_partition() -> None:
    lanes = Lanes(total=100, room=Room(6, 10_000), clock=Steady())
    limits = LaneLimits(concurrency=1, queue=4, wait_s=1.0)
    async with lanes.turn("origin", limits), lanes.turn("another", limits):
        waiting = [asyncio.create_task(_called(lanes, limits, partition=number % 2)) for number in range(8)]
        await asyncio.sleep(0)
        assert not await _called(lanes, limits, partition=0), "four of this partition wait for this origin"
        assert not any(task.done() for task in waiting)
        elsewhere = [lanes.turn("another", limits, partition=0, size=1) for _ in range(3)]
        others = [asyncio.create_task(_entered(each)) for each in elsewhere]
        await asyncio.sleep(0.01)
        assert [task.done() for task in others] == [False, False, True], "six of it wait for all origins"
        await asyncio.gather(*waiting, *others, return_exceptions=True)
    assert await _called(lanes, limits)


async def _entered(turn: AbstractAsyncContextManager[object]) -> None:
    async with turn:
        """A call."""


def test_bytes_take_room_too_but_one_delivery_may_always_wait() -> None:
    room = Room(10, 1_000)
    assert room.has(1, 5_000)
    with room.taken(1, 5_000):
        assert not room.has(1, 1)
        assert room.has(2, 1_000)
    assert room.has(1, 1_000)


async def test_a_process_that_is_behind_does_not_make_itself_work_by_sending_away() -> None:
    clock = Steady()
    lanes = Lanes(total=100, room=Room(20, 10_000), clock=clock)
    limits = LaneLimits(concurrency=1, queue=2, wait_s=5.0)
    async with lanes.turn("origin", limits):
        clock.is_behind = True
        waiting = [asyncio.create_task(_called(lanes, limits)) for _ in range(20)]
        await asyncio.sleep(0.01)
        assert not any(task.done() for task in waiting)
        assert not await _called(lanes, limits), "the windows of the partitions are kept free all the same"
        clock.is_behind = False
        assert not await _called(lanes, limits)
    assert all(await asyncio.gather(*waiting))


async def test_who_waits_when_the_lanes_close_is_left_to_the_next_owner() -> None:
    lanes, limits = open_lanes(), LaneLimits(concurrency=1, queue=10, wait_s=5.0)
    async with lanes.turn("origin", limits):
        waiting = [asyncio.create_task(_called(lanes, limits)) for _ in range(5)]
        await asyncio.sleep(0)
        lanes.close()
        ends = await asyncio.gather(*waiting, return_exceptions=True)
        assert [type(end) for end in ends] == [ReleaseRecord] * 5
        with pytest.raises(ReleaseRecord):
            await _called(lanes, limits)


async def test_a_slow_destination_has_no_more_waiting_than_it_will_take_in_time() -> None:
    lanes, limits = open_lanes(), LaneLimits(concurrency=2, queue=1_000, wait_s=0.02)
    async with lanes.turn("origin", limits), lanes.turn("origin", limits):
        waiting = [asyncio.create_task(_called(lanes, limits)) for _ in range(50)]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert sum(not task.done() for task in waiting) == 2
    await asyncio.gather(*waiting)


async def test_who_waits_for_the_rate_when_the_lanes_close_is_left_too() -> None:
    lanes, limits = open_lanes(), LaneLimits(concurrency=5, queue=10, wait_s=5.0, rate=0.5)
    assert await _called(lanes, limits)
    waiting = asyncio.create_task(_called(lanes, limits))
    await asyncio.sleep(0.01)
    lanes.close()
    with pytest.raises(ReleaseRecord):
        await waiting


async def test_who_comes_back_to_a_destination_that_hung_does_not_wait_behind_those_it_sent_away() -> None:
    lanes, limits = open_lanes(), LaneLimits(concurrency=1, queue=1, wait_s=0.1)
    async with lanes.turn("origin", limits):
        await asyncio.sleep(0.05)
        assert not any(await asyncio.gather(*(_called(lanes, limits) for _ in range(100))))
        assert lanes.come_back_ms("origin", limits, 10**15) == 10**15
