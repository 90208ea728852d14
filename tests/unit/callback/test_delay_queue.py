"""Waiters are woken in the order of their times, never early, and sent away when the heap closes."""

import asyncio
import time

import pytest

from services.callback import delay_queue
from services.callback.delay_queue import DelayQueue, wall_clock_ms
from shared.kafka.handler import ReleaseRecord
from tests.support.waiting import until


class Clock:
    """A wall clock that can be set."""

    def __init__(self) -> None:
        self.offset_ms = 0

    def __call__(self) -> int:
        return wall_clock_ms() + self.offset_ms


async def test_nothing_is_early_and_little_is_late() -> None:
    heap = DelayQueue()
    start_ms = wall_clock_ms()
    woken: list[tuple[int, int]] = []

    async def wait(due_ms: int) -> None:
        await heap.wait_until(due_ms)
        woken.append((due_ms, wall_clock_ms()))

    dues = [start_ms + number * 7_919 % 300 for number in range(2_000)]
    async with asyncio.timeout(10), asyncio.TaskGroup() as tasks:
        for due_ms in dues:
            tasks.create_task(wait(due_ms))
    assert all(at_ms >= due_ms for due_ms, at_ms in woken)
    assert len(woken) == 2_000
    assert len(heap) == 0


async def test_an_earlier_time_overtakes_those_that_wait() -> None:
    heap = DelayQueue()
    late = asyncio.create_task(heap.wait_until(wall_clock_ms() + 3_600_000))
    await until(lambda: len(heap) == 1)
    began = time.monotonic()
    await heap.wait_until(wall_clock_ms() + 20)
    assert time.monotonic() - began < 1.0
    late.cancel()


async def test_a_clock_set_back_makes_nothing_early() -> None:
    clock = Clock()
    heap = DelayQueue(clock)
    due_ms = clock() + 100
    waiting = asyncio.create_task(heap.wait_until(due_ms))
    await until(lambda: len(heap) == 1)
    clock.offset_ms -= 300
    await waiting
    assert clock() >= due_ms


async def test_a_clock_set_forward_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delay_queue, "CHECK_S", 0.05)
    clock = Clock()
    heap = DelayQueue(clock)
    waiting = asyncio.create_task(heap.wait_until(clock() + 3_600_000))
    await until(lambda: len(heap) == 1)
    clock.offset_ms += 3_600_000
    async with asyncio.timeout(5):
        await waiting


async def test_closing_sends_everybody_away_and_whoever_comes() -> None:
    heap = DelayQueue()
    waiting = [asyncio.create_task(heap.wait_until(wall_clock_ms() + 60_000)) for _ in range(100)]
    await until(lambda: len(heap) == 100)
    heap.close()
    outcomes = await asyncio.gather(*waiting, return_exceptions=True)
    assert {type(outcome) for outcome in outcomes} == {ReleaseRecord}
    with pytest.raises(ReleaseRecord):
        await heap.wait_until(0)


async def test_cancelled_waiters_are_forgotten() -> None:
    heap = DelayQueue()
    waiting = [asyncio.create_task(heap.wait_until(wall_clock_ms() + 60_000)) for _ in range(1_000)]
    await until(lambda: len(heap) == 1_000)
    for task in waiting[10:]:
        task.cancel()
    await until(lambda: len(heap) == 10)
    assert len(heap._heap) <= 10 * 2 + delay_queue.MANY
    heap.close()
    await asyncio.gather(*waiting, return_exceptions=True)
