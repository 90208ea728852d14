"""A partition is paused as idle only when the broker has said that there is nothing in it."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from shared.kafka.idle_pause import IdlePauser
from shared.kafka.records import Partition
from tests.support.waiting import until
from tests.unit.kafka.support import processor_of

LONG = Partition("long", 0)
OTHER = Partition("other", 0)


class Broker:
    """Answers when it is told to."""

    def __init__(self) -> None:
        self.answered_at_s = 0.0
        self.steered: list[Partition] = []
        self.runs = [processor_of(each) for each in (LONG, OTHER)]
        self.pauser = IdlePauser(
            frozenset({LONG.topic}),
            lambda: self.runs,
            lambda run: self.steered.append(run.partition),
            lambda _: self.answered_at_s,
        )

    def answer(self) -> None:
        self.answered_at_s = time.time()


@asynccontextmanager
async def watched() -> AsyncIterator[Broker]:
    broker = Broker()
    task = asyncio.create_task(broker.pauser.run())
    try:
        yield broker
    finally:
        task.cancel()
        await asyncio.wait({task})


async def test_without_an_answer_nothing_sleeps() -> None:
    async with watched() as broker:
        await asyncio.sleep(0.5)
        assert not broker.steered


async def test_it_sleeps_after_an_answer_and_wakes_by_itself() -> None:
    async with watched() as broker:
        await asyncio.sleep(0.15)  # it has been looked at
        broker.answer()
        await until(lambda: broker.pauser.is_paused(LONG))
        await until(lambda: not broker.pauser.is_paused(LONG))
        await asyncio.sleep(0.5)
        assert not broker.pauser.is_paused(LONG), "the answer is from before it woke"
        assert broker.steered == [LONG, LONG]
        assert not broker.pauser.is_paused(OTHER)


async def test_what_has_something_stays_awake_until_a_later_answer() -> None:
    async with watched() as broker:
        await asyncio.sleep(0.15)
        broker.answer()
        broker.pauser.wake(LONG)
        await asyncio.sleep(0.5)
        assert not broker.pauser.is_paused(LONG)
        broker.answer()
        await until(lambda: broker.pauser.is_paused(LONG))
