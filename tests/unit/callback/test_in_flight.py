"""While an attempt is under way its repeats are finished at once, and a later attempt waits for it."""

import asyncio

from services.callback.in_flight import InFlight
from shared.domain.callbacks import Delivery
from tests.support.waiting import until
from tests.unit.callback.support import delivery


class Attempts:
    """Takes turns, and holds each until it is let go."""

    def __init__(self) -> None:
        self.in_flight = InFlight()
        self.begun: list[tuple[int, int]] = []
        self.repeats = 0
        self.go_on = asyncio.Event()

    async def attempt(self, subject: Delivery) -> None:
        async with self.in_flight.attempting(subject) as is_mine:
            if not is_mine:
                self.repeats += 1
                return
            self.begun.append((subject.replay_count, subject.attempt))
            await self.go_on.wait()


async def test_a_repeat_is_finished_at_once() -> None:
    attempts = Attempts()
    first = asyncio.create_task(attempts.attempt(delivery(attempt=2)))
    await until(lambda: attempts.begun == [(0, 2)])
    await attempts.attempt(delivery(attempt=2))
    await attempts.attempt(delivery(attempt=1))
    assert attempts.repeats == 2
    attempts.go_on.set()
    await first


async def test_a_later_attempt_waits_for_its_turn() -> None:
    attempts = Attempts()
    first = asyncio.create_task(attempts.attempt(delivery(attempt=7)))
    await until(lambda: len(attempts.begun) == 1)
    replay = asyncio.create_task(attempts.attempt(delivery(attempt=1, replay_count=1)))
    other = asyncio.create_task(attempts.attempt(delivery(1)))
    await until(lambda: len(attempts.begun) == 2)
    assert not replay.done()
    attempts.go_on.set()
    await asyncio.gather(first, replay, other)
    assert attempts.begun == [(0, 7), (0, 1), (1, 1)]


async def test_what_was_put_off_waits_until_that_is_acknowledged() -> None:
    """It may be read from the log before; finished as a repeat, it would be lost."""
    attempts = Attempts()
    first = asyncio.create_task(attempts.attempt(delivery()))
    await until(lambda: len(attempts.begun) == 1)
    put_off = asyncio.create_task(attempts.attempt(delivery(deferrals=1)))
    await asyncio.sleep(0)
    attempts.go_on.set()
    await asyncio.gather(first, put_off)
    assert attempts.repeats == 0
    assert attempts.begun == [(0, 1), (0, 1)]


async def test_a_cancelled_attempt_gives_its_turn_back() -> None:
    attempts = Attempts()
    first = asyncio.create_task(attempts.attempt(delivery()))
    await until(lambda: len(attempts.begun) == 1)
    first.cancel()
    await asyncio.wait([first])
    attempts.go_on.set()
    await attempts.attempt(delivery())
    assert len(attempts.begun) == 2
    assert not attempts.in_flight._under_way
