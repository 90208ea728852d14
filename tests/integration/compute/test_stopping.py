"""A process that is told to stop ends what runs, leaves what waits, and says that it died of nothing."""

import asyncio
import signal
from pathlib import Path

import pytest

from services.compute.settings import ComputeSettings
from shared.kafka.topics import Topic
from tests.integration.compute.services import compute_process, running
from tests.integration.compute.support import bench, nap
from tests.integration.kafka.support import commit_of, until
from tests.unit.compute.support import descendants, gone

pytestmark = pytest.mark.kafka


async def test_what_runs_is_finished_and_what_waits_is_left(
    settings: ComputeSettings, tmp_path: Path
) -> None:
    async with bench(settings) as made:
        runs, waits = nap(1_000, 1), [nap(1_000, 2) for _ in range(5)]
        one_slot = settings.model_copy(update={"slots": 1, "started_after_ms": 100})
        async with compute_process(one_slot, tmp_path / "log") as process:
            await made.send(runs, *waits, partition=0)
            await until(lambda: bool(made.started(runs)))
            below = descendants(process.pid)
            began = asyncio.get_running_loop().time()
            assert await process.end(signal.SIGTERM) == 0
            assert asyncio.get_running_loop().time() - began < 4
            assert gone(below)
        assert await made.result(runs) == {"value": 1}
        assert not any(made.outcomes(each) for each in waits)
        offset, metadata = await commit_of(settings, 0, group="compute", topic=Topic.REQUESTS)
        assert (offset, metadata.attempts) == (1, {})
        assert "record.retried" not in (tmp_path / "log").read_text()
        async with running(settings.model_copy(update={"slots": 4})):
            await made.ended(waits)


async def test_a_drain_ends_at_its_time_limit(settings: ComputeSettings, tmp_path: Path) -> None:
    async with bench(settings) as made:
        request = nap(60_000)
        hasty = settings.model_copy(update={"drain_timeout_ms": 500})
        async with compute_process(hasty, tmp_path / "log") as process:
            await made.send(request, partition=0)
            await until(lambda: bool(made.started(request)))
            began = asyncio.get_running_loop().time()
            assert await process.end(signal.SIGTERM) == 0
            assert asyncio.get_running_loop().time() - began < 4
        offset, metadata = await commit_of(settings, 0, group="compute", topic=Topic.REQUESTS)
        assert (offset, metadata.attempts) == (0, {})


async def test_a_stop_before_the_broker_answers_is_heard(settings: ComputeSettings) -> None:
    from services.compute.app import ComputeService

    away = settings.model_copy(update={"kafka": "127.0.0.1:1"})
    service, stop = ComputeService(away), asyncio.Event()
    task = asyncio.create_task(service.run(stop))
    await until(lambda: service.readiness()["slots"])
    assert not task.done()
    stop.set()
    async with asyncio.timeout(20):
        await task
