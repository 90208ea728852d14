"""Cancellations reach what waits and what runs, and what has not arrived yet."""

import asyncio

import pytest

from services.compute.settings import ComputeSettings
from shared.domain.requests import FailureCode
from tests.integration.compute.services import computing, running
from tests.integration.compute.support import bench, nap
from tests.integration.kafka.support import until

pytestmark = pytest.mark.kafka


async def test_a_running_request_is_killed(settings: ComputeSettings) -> None:
    async with computing(settings, started_after_ms=50) as made:
        request = nap(60_000)
        await made.send(request)
        await until(lambda: bool(made.started(request)))
        await made.cancel(request)
        error = await made.failure(request, FailureCode.CANCELLED)
        assert error.signal == "SIGKILL"
        assert (await made.outcome(request)).attempts == 1


async def test_a_waiting_request_ends_at_once_though_every_slot_is_taken(settings: ComputeSettings) -> None:
    async with computing(settings, slots=1, started_after_ms=50) as made:
        long, waiting = nap(60_000), nap(1)
        await made.send(long, waiting, partition=0)
        await until(lambda: bool(made.started(long)))
        await made.cancel(waiting)
        await made.failure(waiting, FailureCode.CANCELLED)
        assert (await made.outcome(waiting)).attempts == 0
        assert not made.outcomes(long)
        await made.cancel(long)
        await made.failure(long, FailureCode.CANCELLED)


async def test_what_was_cancelled_while_nobody_computed_is_not_started(settings: ComputeSettings) -> None:
    async with bench(settings) as made:
        request, other = nap(1), nap(1)
        await made.cancel(request)
        await made.send(request, other)
        async with running(settings):
            await made.failure(request, FailureCode.CANCELLED)
            assert await made.result(other) == {"value": 0}


async def test_a_cancellation_after_the_outcome_changes_nothing(settings: ComputeSettings) -> None:
    async with computing(settings) as made:
        request, other = nap(1), nap(60_000)
        await made.send(request)
        await made.outcome(request)
        await made.cancel(request)
        await made.send(other)
        await made.cancel(other)
        await made.failure(other, FailureCode.CANCELLED)
        assert len(made.outcomes(request)) == 1


async def test_the_oldest_cancellations_are_forgotten(settings: ComputeSettings) -> None:
    async with bench(settings) as made:
        requests = [nap(1, value) for value in range(4)]
        for each in requests:
            await made.cancel(each)
        async with running(settings.model_copy(update={"cancellations": 2})):
            await made.send(*requests)
            await made.ended(requests)
        assert await made.result(requests[0]) == {"value": 0}
        await made.failure(requests[3], FailureCode.CANCELLED)


async def test_many_cancelled_at_once_free_their_places(settings: ComputeSettings) -> None:
    async with computing(settings, slots=1, started_after_ms=50) as made:
        long, waiting, last = nap(60_000), [nap(60_000) for _ in range(50)], nap(1)
        await made.send(long, partition=0)
        await until(lambda: bool(made.started(long)))
        await made.send(*waiting, last, partition=0)
        await asyncio.gather(*(made.cancel(each) for each in [*waiting, long]))
        await made.outcome(last)
        assert set((await made.ended([*waiting, long])).values()) == {1}
