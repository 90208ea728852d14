"""The API as processes: its port, its workers, and how it ends."""

import asyncio
import os
import signal
import socket

import httpx
import pytest

from services.ingest.settings import IngestSettings
from tests.integration.ingest.compute_twin import ComputeTwin
from tests.integration.ingest.support import (
    HASH,
    ApiProcess,
    api_process,
    is_ready,
    until,
)

pytestmark = [pytest.mark.kafka, pytest.mark.mysql]


async def until_serving(process: ApiProcess, workers: int = 1) -> str:
    """Wait until that many workers hear replies; the URL."""
    await until(lambda: process.output.count("replies.listening") >= workers)
    assert process.url is not None
    async with httpx.AsyncClient(base_url=process.url) as client:
        await until(lambda: is_ready(client))
    return process.url


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def free(url: str) -> bool:
    try:
        socket.create_server(("127.0.0.1", httpx.URL(url).port or 0)).close()
    except OSError:
        return False
    return True


async def test_it_serves_and_stops_with_its_work_done(settings: IngestSettings, compute: ComputeTwin) -> None:
    compute.held = True
    async with api_process(settings) as process:
        url = await until_serving(process)
        async with httpx.AsyncClient(base_url=url, timeout=30) as client:
            waiting = asyncio.create_task(client.post("/v1/requests/sync", json=HASH))
            await until(lambda: bool(compute.submissions))
            process.signal(signal.SIGTERM)
            response = await waiting
        assert response.status_code == 202
        assert await process.ended() == 0
        assert '"service.stopped"' in process.output
        assert free(url)


async def test_a_port_in_use_is_said_so(settings: IngestSettings) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        async with api_process(settings.model_copy(update={"listen_port": port})) as process:
            assert await process.ended() == 1
    assert f"cannot listen on 127.0.0.1:{port}" in process.output
    assert "CONSUMA_LISTEN_PORT" in process.output
    assert "Traceback" not in process.output


async def test_nobody_else_is_let_in_without_a_gateway(settings: IngestSettings) -> None:
    async with api_process(settings, CONSUMA_LISTEN_HOST="0.0.0.0") as process:
        assert await process.ended() == 1
    assert "CONSUMA_TRUSTED_NETWORK" in process.output


async def test_a_dead_worker_is_replaced_while_the_other_serves(
    settings: IngestSettings, compute: ComputeTwin
) -> None:
    async with api_process(settings.model_copy(update={"workers": 2})) as process:
        url = await until_serving(process, workers=2)
        first, second = process.worker_pids()
        os.kill(first, signal.SIGKILL)
        for _ in range(50):
            async with httpx.AsyncClient(base_url=url, timeout=30) as client:
                assert (await client.post("/v1/requests/sync", json=HASH)).status_code == 200
        await until(lambda: process.output.count("replies.listening") == 3)
        assert alive(second)
        async with httpx.AsyncClient(base_url=url, timeout=30) as client:
            metrics = (await client.get("/metrics")).text
        assert 'consuma_submissions_total{mode="sync",operation="hash_chain",outcome="accepted"} 50.0' in (
            metrics.replace(',instance="ingest-0"', "")
        ), process.output
        process.signal(signal.SIGTERM)
        assert await process.ended() == 0
        assert not any(map(alive, process.worker_pids()))


async def test_workers_do_not_outlive_a_killed_parent(settings: IngestSettings) -> None:
    """Otherwise the port would stay taken, and the next start would fail."""
    async with api_process(settings.model_copy(update={"workers": 2})) as process:
        url = await until_serving(process, workers=2)
        workers = process.worker_pids()
        process.signal(signal.SIGKILL)
        await until(lambda: not any(map(alive, workers)))
        assert free(url)


async def test_a_second_stop_signal_changes_nothing(settings: IngestSettings, compute: ComputeTwin) -> None:
    compute.held = True
    async with api_process(settings) as process:
        url = await until_serving(process)
        async with httpx.AsyncClient(base_url=url, timeout=30) as client:
            waiting = asyncio.create_task(client.post("/v1/requests/sync", json=HASH))
            await until(lambda: bool(compute.submissions))
            process.signal(signal.SIGTERM)
            process.signal(signal.SIGINT)
            assert (await waiting).status_code == 202
        assert await process.ended() == 0
