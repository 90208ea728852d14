"""Portions of work, with room for others between them."""

import asyncio
from collections.abc import Sequence

from services.compute.start_throttle import StartThrottle


async def rounds_of(throttle: StartThrottle, sizes: Sequence[int]) -> list[list[int]]:
    """Which records, by number, pass in each round of the event loop."""
    passed: list[int] = []
    rounds: list[list[int]] = []

    async def work(number: int, size: int) -> None:
        await throttle.step(size)
        passed.append(number)

    tasks = [asyncio.create_task(work(*each)) for each in enumerate(sizes)]
    while not all(task.done() for task in tasks):
        before = len(passed)
        await asyncio.sleep(0)
        rounds.append(passed[before:])
    return [each for each in rounds if each]


async def test_a_portion_passes_in_each_round_in_order() -> None:
    rounds = await rounds_of(StartThrottle(portion=3), [1] * 10)
    assert rounds == [[0, 1, 2], [3, 4, 5], [6, 7, 8], [9]]


async def test_a_round_ends_with_the_record_that_uses_its_bytes_up() -> None:
    rounds = await rounds_of(
        StartThrottle(portion=8, portion_bytes=100), [40, 40, 40, 40, 1_000, 1, 99, 1, 1]
    )
    assert rounds == [[0, 1, 2], [3, 4], [5, 6], [7, 8]]


async def test_a_record_of_any_size_passes_alone() -> None:
    assert await rounds_of(StartThrottle(portion=8, portion_bytes=100), [1_000] * 3) == [[0], [1], [2]]


async def test_who_gives_up_takes_no_place() -> None:
    throttle = StartThrottle(portion=1)
    tasks = [asyncio.create_task(throttle.step(1)) for _ in range(4)]
    await asyncio.sleep(0)
    tasks[1].cancel()
    await asyncio.wait(tasks)
    assert [task.cancelled() for task in tasks] == [False, True, False, False]


async def test_alone_nobody_waits() -> None:
    throttle = StartThrottle(portion=1)
    for _ in range(3):
        await throttle.step(1_000_000)
        await asyncio.sleep(0)
