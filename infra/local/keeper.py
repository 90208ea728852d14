"""Keeping parts running: started, asked whether they work, started again when they die, stopped in time."""

import asyncio
import itertools
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from infra.local.child import Child
from infra.local.errors import LocalError
from infra.local.logfile import LogFile
from infra.local.parts import Launch, Part, environment
from infra.local.reporting import Reporter
from shared.kafka.backoff import backoff_s

__all__ = ["Keeper", "restart_waits"]

STEADY_S: Final = 30.0
"""A part that has run for so long and dies is restarted at once."""

WAIT_CAP_S: Final = 10.0
PROBE_S: Final = 0.05
WATCH_S: Final = 0.25
HASTE_S: Final = 2.0
FAILED_STARTS: Final = 3
"""So often in a row a part may die before it works, until whoever waits for it is told."""


def restart_waits() -> Iterator[float]:
    """The first death may be an accident; a part that keeps dying is restarted ever more seldom."""
    return itertools.chain([0.0], backoff_s(0.2, WAIT_CAP_S))


class Keeper:
    """Keeps `part` running in a process group of its own until it is stopped."""

    def __init__(
        self,
        part: Part,
        *,
        data_dir: Path,
        log: LogFile,
        reporter: Reporter,
        changed: Callable[[], None],
    ) -> None:
        self.part = part
        self.log = log
        self.url = ""
        self.restarts = 0
        self._data_dir = data_dir
        self._reporter = reporter
        self._changed = changed
        self._child: Child | None = None
        self._launch: Launch | None = None
        self._works = asyncio.Event()
        self._has_worked = False
        self._failed_starts = 0
        self._hopeless = asyncio.Event()
        self._stopping = asyncio.Event()
        self._hastened = asyncio.Event()

    @property
    def name(self) -> str:
        """The part's."""
        return self.part.name

    @property
    def pid(self) -> int | None:
        """Of the running process, if there is one."""
        return None if self._child is None else self._child.pid

    @property
    def works(self) -> bool:
        """Whether the running process has been seen doing its work."""
        return self._works.is_set()

    async def until_working(self) -> None:
        """Wait until the part works.

        Raises:
            LocalError: it has died again and again before it did.
        """
        waits = [asyncio.create_task(each.wait()) for each in (self._works, self._hopeless)]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in waits:
                each.cancel()
        if not self.works:
            raise LocalError(
                f"{self.name} does not start: it has died {self._failed_starts} times before it worked. It "
                f"says: {self.log.complaint() or 'nothing'} (all of it: {self.log.path})"
            )

    def signal(self, number: signal.Signals) -> None:
        """Signal the process, as somebody from outside might; one told to end does not count as working."""
        if self._child is not None:
            self._child.signal(number)
            if number in (signal.SIGKILL, signal.SIGTERM):
                self._works.clear()

    async def answers(self) -> bool:
        """Whether the running process does its work at this moment; `works` only says that it once did."""
        return self.works and self._launch is not None and await self._launch.works()

    def stop(self) -> None:
        """Have `run` end: SIGTERM now, SIGKILL when the part's time is over."""
        self._stopping.set()

    def hasten(self) -> None:
        """Have `run` end within a moment."""
        self._stopping.set()
        self._hastened.set()

    def give_up(self) -> None:
        """Whoever waits for the part to work need not."""
        self._works.clear()
        self._hopeless.set()

    async def run(self) -> None:
        """Keep the part running until `stop`; whatever ends this, the process has ended before."""
        waits = restart_waits()
        while not self._stopping.is_set():
            began = time.monotonic()
            code = await self._run_once()
            if self._stopping.is_set():
                return
            self._works.clear()
            self._failed_starts = 0 if self._has_worked else self._failed_starts + 1
            if self._failed_starts >= FAILED_STARTS:
                self._hopeless.set()
            if self._has_worked and time.monotonic() - began > STEADY_S:
                waits = restart_waits()
            self.restarts += 1
            wait_s = next(waits)
            self._reporter.warn(self._obituary(code, wait_s))
            await _set_within(self._stopping, wait_s)

    async def _run_once(self) -> int:
        """One process from its start to its burial; its exit code."""
        launch = self._launch = self.part.launch()
        self._has_worked = False
        child = self._child = Child.start(
            launch.command,
            environment=environment(self._data_dir, launch.environment),
            log=self.log.path,
            death_signal=self.part.death_signal,
        )
        self.url = launch.url
        self._changed()
        ended = asyncio.create_task(child.ended(), name=f"{self.name}.ended")
        watching = asyncio.create_task(self._watch(launch), name=f"{self.name}.watch")
        stopping = asyncio.create_task(self._stopping.wait())
        try:
            await asyncio.wait([ended, watching, stopping], return_when=asyncio.FIRST_COMPLETED)
            if watching.done():
                watching.result()
            if not ended.done():
                await self._end(child, ended)
            return ended.result()
        finally:
            watching.cancel()
            stopping.cancel()
            if not ended.done():
                child.kill()
            await asyncio.wait([ended, watching, stopping])
            self._child = None

    async def _end(self, child: Child, ended: asyncio.Task[int]) -> None:
        child.signal(signal.SIGTERM)
        hastened = asyncio.create_task(self._hastened.wait())
        await asyncio.wait([ended, hastened], timeout=self.part.stop_s, return_when=asyncio.FIRST_COMPLETED)
        if not ended.done() and hastened.done():
            await asyncio.wait([ended], timeout=HASTE_S)
        hastened.cancel()
        if not ended.done():
            self._reporter.warn(f"{self.name} did not stop in time and was killed")
            child.kill()
        await ended

    async def _watch(self, launch: Launch) -> None:
        """Note when the process begins to work, and pass on what its log says; without end."""
        while not await launch.works():  # noqa: ASYNC110 - what is waited for sets no event
            await asyncio.sleep(PROBE_S)
        self.log.news()  # complaints of a part that has not found the others yet
        self._works.set()
        self._has_worked = True
        self._hopeless.clear()
        while True:
            self._tell()
            await asyncio.sleep(WATCH_S)

    def _tell(self) -> None:
        for line in self.log.news():
            self._reporter.warn(f"{self.name}: {line}")

    def _obituary(self, code: int, wait_s: float) -> str:
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        when = f"in {wait_s:.1f} s" if wait_s else "now"
        last = self.log.complaint()
        said = f' after "{last}"' if last and code >= 0 else ""
        return f"{self.name} {how}{said} and is restarted {when}; its log is {self.log.path}"


async def _set_within(event: asyncio.Event, wait_s: float) -> None:
    try:
        async with asyncio.timeout(wait_s):
            await event.wait()
    except TimeoutError:
        return
