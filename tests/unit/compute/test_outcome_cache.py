"""One outcome for one request, however often and however concurrently it is asked for."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine

import pytest

from services.compute.outcome_cache import OutcomeCache
from shared.domain.types import RequestId
from shared.events.codec import EncodedEvent

ONE, TWO, THREE = RequestId("1"), RequestId("2"), RequestId("3")


def event(value: bytes = b"x") -> EncodedEvent:
    return EncodedEvent(key=None, value=value, headers=())


class Producing:
    """Produces an outcome when told to; counts how often it was asked."""

    def __init__(self) -> None:
        self.asked = 0
        self.go = asyncio.Event()
        self.error: Exception | None = None

    async def __call__(self) -> EncodedEvent:
        self.asked += 1
        await self.go.wait()
        error, self.error = self.error, None
        if error is not None:
            raise error
        return event()


def at_once(value: bytes) -> Callable[[], Coroutine[None, None, EncodedEvent]]:
    async def produce() -> EncodedEvent:
        return event(value)

    return produce


async def of(
    cache: OutcomeCache, request_id: RequestId, produce: Callable[[], Awaitable[EncodedEvent]]
) -> EncodedEvent:
    """Ask as the handler does."""
    outcome = await cache.known_or_claimed(request_id)
    if outcome is None:
        try:
            outcome = await produce()
        finally:
            cache.settle(request_id, outcome)
    return outcome


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_those_who_ask_meanwhile_get_the_one_outcome() -> None:
    recent, producing = OutcomeCache(10, 1_000), Producing()
    asking = [asyncio.create_task(of(recent, ONE, producing)) for _ in range(5)]
    await settle()
    producing.go.set()
    outcomes = await asyncio.gather(*asking)
    assert producing.asked == 1
    assert all(each is outcomes[0] for each in outcomes)


@pytest.mark.parametrize("end", ["fails", "is cancelled"])
async def test_when_the_first_is_given_up_one_of_the_others_takes_its_place(end: str) -> None:
    recent, producing = OutcomeCache(10, 1_000), Producing()
    first, *others = [asyncio.create_task(of(recent, ONE, producing)) for _ in range(3)]
    await settle()
    if end == "fails":
        producing.error = OSError("away")
    else:
        first.cancel()
    await settle()
    producing.go.set()
    await asyncio.gather(*others)
    assert producing.asked == 2
    assert isinstance(
        (await asyncio.gather(first, return_exceptions=True))[0], OSError | asyncio.CancelledError
    )


async def test_one_that_waits_can_be_cancelled_alone() -> None:
    recent, producing = OutcomeCache(10, 1_000), Producing()
    first, second = [asyncio.create_task(of(recent, ONE, producing)) for _ in range(2)]
    await settle()
    second.cancel()
    producing.go.set()
    await first
    assert producing.asked == 1


@pytest.mark.parametrize(("most", "most_bytes"), [(2, 1_000), (10, 20)])
async def test_the_oldest_are_forgotten_beyond_either_bound(most: int, most_bytes: int) -> None:
    recent = OutcomeCache(most, most_bytes)
    for request_id in (ONE, TWO, THREE):
        await of(recent, request_id, at_once(b"x" * 10))
    again = Producing()
    again.go.set()
    for request_id, asked in ((TWO, 0), (THREE, 0), (ONE, 1)):
        await of(recent, request_id, again)
        assert again.asked == asked, request_id


async def test_without_memory_every_repeat_is_produced() -> None:
    recent, producing = OutcomeCache(0, 0), Producing()
    producing.go.set()
    await of(recent, ONE, producing)
    await of(recent, ONE, producing)
    assert producing.asked == 2
