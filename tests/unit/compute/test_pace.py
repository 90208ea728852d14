"""Portions of work, with room for others between them."""

import asyncio

from services.compute.pace import Pace


async def test_a_portion_passes_in_each_round_in_order() -> None:
    pace, passed, rounds = Pace(3), [], []

    async def work(number: int) -> None:
        await pace.step()
        passed.append(number)

    tasks = [asyncio.create_task(work(number)) for number in range(10)]
    while not all(task.done() for task in tasks):
        before = len(passed)
        await asyncio.sleep(0)
        rounds.append(len(passed) - before)
    assert passed == list(range(10))
    assert max(rounds) == 3


async def test_who_gives_up_takes_no_place() -> None:
    pace = Pace(1)
    tasks = [asyncio.create_task(pace.step()) for _ in range(4)]
    await asyncio.sleep(0)
    tasks[1].cancel()
    await asyncio.wait(tasks)
    assert [task.cancelled() for task in tasks] == [False, True, False, False]


async def test_alone_nobody_waits() -> None:
    pace = Pace(1)
    for _ in range(3):
        await pace.step()
        await asyncio.sleep(0)
