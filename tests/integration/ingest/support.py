"""The API beside the test, in this process or in its own, and bodies to send it."""

import asyncio
import os
import re
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final

import httpx
from prometheus_client import Gauge

from services.ingest.server import listen, serve, url_of
from services.ingest.settings import IngestSettings
from tests.integration.kafka.support import report, until

__all__ = [
    "HASH",
    "JSON",
    "PATIENCE_S",
    "ApiProcess",
    "api_process",
    "environment",
    "gauge",
    "problem",
    "report",
    "running",
    "stoppable",
    "until",
]

PATIENCE_S: Final = 60.0
HASH: Final[dict[str, Any]] = {"operation": "hash_chain", "input": {"seed": "consuma", "rounds": 3}}
JSON: Final = {"Content-Type": "application/json"}


@asynccontextmanager
async def running(settings: IngestSettings, *, ready: bool = True) -> AsyncIterator[httpx.AsyncClient]:
    """A client of an API that runs in this event loop, on a socket of its own."""
    async with stoppable(settings, asyncio.Event(), ready=ready) as client:
        yield client


@asynccontextmanager
async def stoppable(
    settings: IngestSettings, stop: asyncio.Event, *, ready: bool = True
) -> AsyncIterator[httpx.AsyncClient]:
    """The same, to be stopped by the test."""
    listener = listen(settings)
    url = url_of(listener)
    serving = asyncio.create_task(serve(settings, listener, stop))
    try:
        async with httpx.AsyncClient(base_url=url, timeout=PATIENCE_S) as client:
            if ready:
                await until(lambda: is_ready(client))
            yield client
    finally:
        stop.set()
        async with asyncio.timeout(PATIENCE_S):
            await serving


async def is_ready(client: httpx.AsyncClient) -> bool:
    try:
        return (await client.get("/health/ready")).status_code == 200
    except httpx.TransportError:
        return False


def gauge(found: Gauge) -> float:
    """The present value of a gauge of this process."""
    return next(sample.value for metric in found.collect() for sample in metric.samples)


def problem(response: httpx.Response) -> tuple[int, str]:
    """Status and code of an error, which must be a whole problem document."""
    assert response.headers["content-type"] == "application/problem+json", response.text
    body = response.json()
    assert body["status"] == response.status_code
    assert body["type"] == f"urn:consuma:problem:{body['code']}"
    assert body["title"]
    assert body["detail"]
    return body["status"], body["code"]


def environment(settings: IngestSettings, **more: str) -> Mapping[str, str]:
    """What a process needs to run with `settings`."""
    return {
        **os.environ,
        "CONSUMA_KAFKA": settings.kafka,
        "CONSUMA_TOPIC_PREFIX": settings.topic_prefix,
        "CONSUMA_PARTITIONS": str(settings.partitions),
        "CONSUMA_MYSQL": settings.mysql.get_secret_value(),
        "CONSUMA_SUBMIT_KEYS": settings.submit_keys.get_secret_value(),
        "CONSUMA_LISTEN_PORT": str(settings.listen_port),
        "CONSUMA_WORKERS": str(settings.workers),
        "CONSUMA_DRAIN_TIMEOUT_MS": str(settings.drain_timeout_ms),
        "CONSUMA_STOP_WAIT_MS": str(settings.stop_wait_ms),
        "CONSUMA_ACCEPT_TIMEOUT_MS": str(settings.accept_timeout_ms),
        **more,
    }


class ApiProcess:
    """`python -m services.ingest` and what it wrote."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.output = ""
        self._reading = asyncio.create_task(self._read())

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def url(self) -> str | None:
        found = re.search(r'"url": "(http://[^"]+)"', self.output)
        return found and found[1]

    def worker_pids(self) -> list[int]:
        """Every worker that was ever started, in that order."""
        return [
            int(pid) for pid in re.findall(r'"pid": (\d+), "event": "ingest.worker_started"', self.output)
        ]

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    async def ended(self) -> int:
        async with asyncio.timeout(PATIENCE_S):
            code = await self._process.wait()
            await self._reading
        return code

    async def _read(self) -> None:
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            self.output += line.decode()


@asynccontextmanager
async def api_process(settings: IngestSettings, **more: str) -> AsyncIterator[ApiProcess]:
    """An API as its own process; killed at the end if it still runs."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "services.ingest",
        env=environment(settings, **more),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    made = ApiProcess(process)
    try:
        yield made
    finally:
        if process.returncode is None:
            process.kill()
        await made.ended()
