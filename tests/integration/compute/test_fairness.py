"""Who waits for whom: sync before async, and no operation takes every slot while another waits."""

import asyncio

import pytest

from services.compute.settings import ComputeSettings
from shared.domain.types import Mode
from tests.integration.compute.services import computing
from tests.integration.compute.support import nap, wanted
from tests.integration.kafka.support import until

pytestmark = pytest.mark.kafka


async def test_a_sync_request_waits_for_one_running_task_at_most(settings: ComputeSettings) -> None:
    async with computing(settings, started_after_ms=20) as made:
        backlog = [nap(300) for _ in range(200)]
        await asyncio.gather(*(made.send(each) for each in backlog))
        await until(lambda: any(made.started(each) for each in backlog))
        for _ in range(5):
            request = nap(1)
            await made.send(request, mode=Mode.SYNC)
            assert (await made.outcome(request)).queue_ms <= 400
        assert len(made.results.records) < 100


async def test_an_operation_overtakes_the_backlog_of_another_in_the_window(settings: ComputeSettings) -> None:
    async with computing(settings, started_after_ms=20) as made:
        slow = [nap(300) for _ in range(40)]
        await made.send(*slow, partition=0)
        await until(lambda: any(made.started(each) for each in slow))
        quick = wanted("hash_chain", {"seed": "x"})
        await made.send(quick, partition=0)
        assert (await made.outcome(quick)).queue_ms <= 700
        assert sum(len(made.outcomes(each)) for each in slow) < len(slow) // 2


async def test_more_than_a_window_is_computed_all_the_same(settings: ComputeSettings) -> None:
    async with computing(settings, window=4) as made:
        requests = [nap(0, value) for value in range(100)]
        await asyncio.gather(*(made.send(each, partition=0) for each in requests))
        assert set((await made.ended(requests)).values()) == {1}
