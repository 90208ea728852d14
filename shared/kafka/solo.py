"""Suspects run alone: while one does, nothing else is in flight in the process that a death could blame."""

import asyncio
from collections.abc import Awaitable, Callable, Collection

import structlog

from shared.kafka import metrics
from shared.kafka.partition_run import PartitionRun
from shared.kafka.records import Record
from shared.kafka.retrying import until_done
from shared.kafka.suspicion import Probation, Suspicion

__all__ = ["SoloRunner"]

log = structlog.get_logger()


class SoloRunner:
    """Runs the suspects of all partitions one after the other; meanwhile `busy` keeps the others waiting.

    Args:
        probation: the limits, and what ends a condemned record.
        runs: the partitions that this process owns now.
        handle: handles a record until that has succeeded.
        commit: commits all partitions now; returns when the broker has them, the given one among them.
    """

    def __init__(
        self,
        probation: Probation,
        *,
        runs: Callable[[], Collection[PartitionRun]],
        handle: Callable[[Record], Awaitable[None]],
        commit: Callable[[PartitionRun | None], Awaitable[None]],
    ) -> None:
        self.busy = False
        self._probation = probation
        self._runs = runs
        self._handle = handle
        self._commit = commit
        self._wanted = asyncio.Event()

    def want(self) -> None:
        """A suspect waits."""
        self.busy = True
        self._wanted.set()

    async def run(self) -> None:
        """Serve for ever."""
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            while others := [task for run in self._runs() for task in run.tasks]:
                await asyncio.wait(others)
            while (found := self._next()) is not None:
                await asyncio.wait([found])
            await self._commit(None)  # the last one is innocent, whatever the others do now
            self.busy = False
            for run in self._runs():
                run.dispatch()

    def _next(self) -> asyncio.Task[None] | None:
        return next(filter(None, map(self._start_one, self._runs())), None)

    def _start_one(self, run: PartitionRun) -> asyncio.Task[None] | None:
        taken = run.take_suspect()
        if taken is None:
            return None
        record, suspicion = taken
        return run.start_alone(record, lambda each: self._alone(run, each, suspicion))

    async def _alone(self, run: PartitionRun, record: Record, suspicion: Suspicion) -> None:
        offset = record.offset
        attempts = suspicion.attempts(offset)
        if suspicion.is_condemned(offset):
            log.error("record.condemned", record=record.position, attempts=attempts)
            metrics.CONDEMNED.inc()
            await until_done(lambda each: self._probation.on_poison(each, attempts), record)
            suspicion.finish(offset)
            return
        log.warning("record.in_probation", record=record.position, attempt=attempts + 1)
        metrics.PROBATION_RUNS.inc()
        suspicion.begin(offset)
        try:
            await self._commit(run)
            await self._handle(record)
        except asyncio.CancelledError:
            suspicion.forgive(offset)
            raise
        suspicion.finish(offset)
