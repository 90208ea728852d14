"""Several processes behind one port: the parent listens, the workers accept from the same socket.

A worker that dies takes its own connections along and nobody else's: what waits to be accepted belongs to
the shared socket.
"""

import asyncio
import ctypes
import os
import signal
import socket
import sys
import tempfile
import time
from typing import Final

import structlog
from prometheus_client.multiprocess import mark_process_dead

from services.ingest.server import url_of
from services.ingest.settings import IngestSettings
from shared.kafka.backoff import backoff_s

__all__ = ["inherited_listener", "supervise"]

log = structlog.get_logger()

LISTENER_VARIABLE: Final = "CONSUMA_INGEST_LISTENER"
METRICS_VARIABLE: Final = "PROMETHEUS_MULTIPROC_DIR"
PR_SET_PDEATHSIG: Final = 1
STEADY_S: Final = 30.0
"""A worker that has run for so long is restarted without delay."""

KILL_AFTER_S: Final = 5.0
"""Beyond the drain timeout."""


def inherited_listener() -> socket.socket | None:
    """The parent's socket when this process is a worker; it then dies with the parent."""
    passed = os.environ.get(LISTENER_VARIABLE)
    if passed is None:
        return None
    number, parent = map(int, passed.split(":"))
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:  # it died before the request above
        raise SystemExit(1)
    return socket.socket(fileno=number)


async def supervise(settings: IngestSettings, listener: socket.socket, stop: asyncio.Event) -> None:
    """Keep `settings.workers` processes serving on `listener` until `stop` is set, then drain them."""
    log.info("ingest.listening", url=url_of(listener), workers=settings.workers)
    with tempfile.TemporaryDirectory(prefix="consuma-ingest-") as metrics_directory:
        async with asyncio.TaskGroup() as tasks:
            for number in range(settings.workers):
                worker = _Worker(settings, listener, metrics_directory, number)
                tasks.create_task(worker.keep(stop), name=f"worker-{number}")


class _Worker:
    """One slot for a process, which is refilled when it dies."""

    def __init__(
        self, settings: IngestSettings, listener: socket.socket, metrics_directory: str, number: int
    ) -> None:
        self._kill_after_s = settings.drain_timeout_ms / 1000 + KILL_AFTER_S
        self._descriptor = listener.fileno()
        self._metrics_directory = metrics_directory
        self._number = number

    async def keep(self, stop: asyncio.Event) -> None:
        """Have a process run until `stop` is set."""
        waits = backoff_s(cap_s=10.0)
        while not stop.is_set():
            started = time.monotonic()
            process = await self._start()
            await self._until_ended(process, stop)
            mark_process_dead(process.pid, self._metrics_directory)  # type: ignore[no-untyped-call]
            if stop.is_set():
                return
            log.error("ingest.worker_died", worker=self._number, exit_code=process.returncode)
            if time.monotonic() - started > STEADY_S:
                waits = backoff_s(cap_s=10.0)
            await _wait_for(stop, next(waits))

    async def _start(self) -> asyncio.subprocess.Process:
        environment = {
            **os.environ,
            LISTENER_VARIABLE: f"{self._descriptor}:{os.getpid()}",
            METRICS_VARIABLE: self._metrics_directory,
        }
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "services.ingest",
            pass_fds=[self._descriptor],
            env=environment,
        )
        log.info("ingest.worker_started", worker=self._number, pid=process.pid)
        return process

    async def _until_ended(self, process: asyncio.subprocess.Process, stop: asyncio.Event) -> None:
        ended = asyncio.create_task(process.wait())
        stopped = asyncio.create_task(stop.wait())
        await asyncio.wait([ended, stopped], return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        if not ended.done():
            process.send_signal(signal.SIGTERM)
            done, _ = await asyncio.wait([ended], timeout=self._kill_after_s)
            if not done:
                log.error("ingest.worker_killed", worker=self._number, pid=process.pid)
                process.kill()
        await ended


async def _wait_for(stop: asyncio.Event, wait_s: float) -> None:
    try:
        async with asyncio.timeout(wait_s):
            await stop.wait()
    except TimeoutError:
        return
