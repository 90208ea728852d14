"""A compute service beside the test or as a process of its own."""

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import aiohttp

from services.compute.app import ComputeService
from services.compute.settings import ComputeSettings
from tests.integration.compute.support import Bench, bench
from tests.integration.kafka.support import until

STOP_TIMEOUT_S: Final = 40.0
"""More than the drain and all that closes after it may take."""


@dataclass
class Running:
    """A service in this process."""

    service: ComputeService
    stop: asyncio.Event
    task: asyncio.Task[None]


@asynccontextmanager
async def running(settings: ComputeSettings) -> AsyncIterator[Running]:
    service, stop = ComputeService(settings), asyncio.Event()
    task = asyncio.create_task(service.run(stop))
    try:
        await until(lambda: task.done() or all(service.readiness().values()))
        yield Running(service, stop, task)
    finally:
        stop.set()
        done, _ = await asyncio.wait({task}, timeout=STOP_TIMEOUT_S)
        assert done, f"did not stop: {[each.get_stack() for each in asyncio.all_tasks()]}"
        await task


@asynccontextmanager
async def computing(settings: ComputeSettings, **changes: object) -> AsyncIterator[Bench]:
    """A service with the topics around it."""
    settings = settings.model_copy(update=changes)
    async with bench(settings) as made, running(settings):
        yield made


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class ComputeProcess:
    """`python -m services.compute`; what it logs goes to `log`."""

    settings: ComputeSettings
    log: Path
    port: int = field(default_factory=free_port)
    process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "services.compute", stdout=log, stderr=log, env=self._environment()
            )

    def _environment(self) -> dict[str, str]:
        own = {
            f"CONSUMA_{name.upper()}": str(value)
            for name, value in self.settings.model_dump().items()
            if name in self.settings.model_fields_set
        }
        return {**os.environ, **own, "CONSUMA_HEALTH_PORT": str(self.port)}

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    async def until_ready(self) -> None:
        await until(self._ready)

    async def _ready(self) -> bool:
        assert self.process is not None
        assert self.process.returncode is None, self.log.read_text()
        try:
            async with (
                aiohttp.ClientSession() as session,
                session.get(f"http://127.0.0.1:{self.port}/health/ready") as response,
            ):
                return response.status == 200
        except aiohttp.ClientError:
            return False

    async def end(self, number: signal.Signals) -> int:
        """Signal it and wait for its end; its exit code."""
        assert self.process is not None
        if self.process.returncode is None:
            self.process.send_signal(number)
        async with asyncio.timeout(30):
            return await self.process.wait()

    async def supervise(self, done: Callable[[], bool], most: int) -> int:
        """Start it again whenever it dies, until `done`; how often it died, at most `most` times."""
        deaths = 0

        async def looked_after() -> bool:
            nonlocal deaths
            assert self.process is not None
            if self.process.returncode is not None:
                deaths += 1
                assert deaths <= most, self.log.read_text()
                await self.start()
            return done()

        await until(looked_after)
        return deaths


@asynccontextmanager
async def compute_process(settings: ComputeSettings, log: Path) -> AsyncIterator[ComputeProcess]:
    """A process that is started and ready; killed at the end if it still runs."""
    made = ComputeProcess(settings, log)
    await made.start()
    try:
        await made.until_ready()
        yield made
    finally:
        await made.end(signal.SIGKILL)
