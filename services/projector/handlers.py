"""The projector's work: from the log, in batches, into the tables; forever, and from the tables' positions.

One process leads, others stand by for its lock. Whatever goes wrong with the database or the log ends the
session: the next one reads the stored positions and goes on from there. So there is no state to repair, and
a COMMIT whose answer was lost needs no case of its own.
"""

import asyncio
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Final

import structlog

from services.projector import metrics
from services.projector.interpreter import Interpreter
from services.projector.log_source import LogNotReadyError, LogSource, open_log_source
from services.projector.portions import Fetched, portions
from services.projector.settings import ProjectorSettings
from shared.db.batches import Batch, as_anomaly, cut_at
from shared.db.errors import BatchRefusedError, DatabaseAwayError, ProjectionFencedError
from shared.db.interpret import Anomaly, Interpretation, Skipped
from shared.db.queries import LIVE_PROJECTOR
from shared.db.writer import ProjectionSession, projection_session
from shared.events.decoder import DecoderExhaustedError
from shared.events.decoder_process import DecoderStartError
from shared.kafka.backoff import backoff_s
from shared.kafka.ending import is_cancelled
from shared.kafka.records import Record

__all__ = ["Projector"]

log = structlog.get_logger()

LOCK_WAIT_S: Final = 1
"""A standby asks again so often; within it the lock comes the moment it is free."""

RETRY_CAP_S: Final = 2.0
"""Longest pause between attempts: what a restarted database waits for its projector at most."""

SESSION_ENDS: Final = (
    DatabaseAwayError,
    LogNotReadyError,
    ProjectionFencedError,
    DecoderStartError,
    DecoderExhaustedError,
    MemoryError,
)
"""What heals without a change of the record: the next session reads it again."""

CHECKS_PER_DEADLINE: Final = 5
"""An idle session proves itself alive well within the server's limit for silent ones."""


class Projector:
    """Projects until it is told to stop."""

    def __init__(self, settings: ProjectorSettings, projector: str = LIVE_PROJECTOR) -> None:
        self._settings = settings
        self._projector = projector
        self._standing_by = False
        self._source: LogSource | None = None
        self._interpreter = Interpreter(settings.keys())
        self._check_interval_s = settings.write_timeout_ms / 1000 / CHECKS_PER_DEADLINE

    @property
    def leading(self) -> bool:
        """Whether this process projects."""
        return self._source is not None

    def readiness(self) -> Mapping[str, bool]:
        """Ready is who projects every partition, and who stands by to."""
        source = self._source
        return {
            "working": self._standing_by or source is not None,
            "partitions": source is None or not source.alarmed,
        }

    async def run(self, stop: asyncio.Event) -> None:
        """Session after session; what ends one is waited out with growing pauses, however long it lasts."""
        try:
            await self._sessions(stop)
        finally:
            await self._interpreter.close()

    async def _sessions(self, stop: asyncio.Event) -> None:
        waits = backoff_s(cap_s=RETRY_CAP_S)
        while not stop.is_set():
            began = time.monotonic()
            try:
                await self._guarded_session(stop)
            except SESSION_ENDS as error:
                metrics.SESSIONS_LOST.labels(type(error).__name__).inc()
                log.warning("projector.session_lost", cause=type(error).__name__, error=str(error))
            if time.monotonic() - began > self._check_interval_s:
                waits = backoff_s(cap_s=RETRY_CAP_S)
            await _wait(stop, next(waits))

    async def _guarded_session(self, stop: asyncio.Event) -> None:
        try:
            await self._session(stop)
        except asyncio.CancelledError as error:
            if is_cancelled():
                raise
            raise LogNotReadyError("the log's client let a cancellation of its own out") from error

    async def _session(self, stop: asyncio.Event) -> None:
        try:
            async with projection_session(self._settings, self._projector) as session:
                if await self._lead(session, stop):
                    async with open_log_source(self._settings) as source:
                        await self._start(session, source)
                        await self._project(session, source, stop)
        finally:
            self._standing_by = False
            self._source = None
            metrics.LEADING.set(0)

    async def _lead(self, session: ProjectionSession, stop: asyncio.Event) -> bool:
        """Wait for the lock; False when told to stop before."""
        while not stop.is_set():
            if await session.acquire(LOCK_WAIT_S):
                self._standing_by = False
                return True
            if not self._standing_by:
                self._standing_by = True
                log.info("projector.standing_by")
        return False

    async def _start(self, session: ProjectionSession, source: LogSource) -> None:
        """Go to the stored positions; a partition that was never read begins where its log does."""
        stored = await session.positions()
        unknown = [each for each in source.partitions if each not in stored]
        if unknown:
            await session.register(await source.log_starts(unknown))
            stored = await session.positions()
        await source.start_from(stored)
        self._source = source
        metrics.LEADING.set(1)
        log.info("projector.leading", partitions=len(source.partitions), stopped=len(source.alarmed))

    async def _project(self, session: ProjectionSession, source: LogSource, stop: asyncio.Event) -> None:
        interval_s = self._settings.batch_interval_ms / 1000
        last_use = time.monotonic()
        while not stop.is_set():
            fetched = await source.fetch(self._settings.batch_records)
            began = time.monotonic()
            if fetched.moves:
                await self._apply(session, source, fetched, stop)
                source.show_lag()
                last_use = time.monotonic()
                metrics.BATCH_SECONDS.observe(last_use - began)
            elif began - last_use > self._check_interval_s:
                await session.check()
                source.show_lag()
                last_use = began
            if fetched.moves and len(fetched.records) < self._settings.batch_records:
                await _wait(stop, interval_s - (time.monotonic() - began))

    async def _apply(
        self, session: ProjectionSession, source: LogSource, fetched: Fetched, stop: asyncio.Event
    ) -> None:
        """Each portion is written before the next one is interpreted, which may take a while."""
        limits = self._settings
        for portion in portions(fetched, most_records=limits.batch_records, most_bytes=limits.batch_bytes):
            if stop.is_set():
                return
            entries = await self._interpreted(session, source, portion)
            for entry in entries:
                _count(entry)
            metrics.BATCH_RECORDS.observe(len(entries))
            await _write(session, Batch(entries=entries, moves=portion.moves))

    async def _interpreted(
        self, session: ProjectionSession, source: LogSource, portion: Fetched
    ) -> list[Interpretation]:
        """What the records mean; the session is checked meanwhile, or the server would take it for dead.

        Raises:
            DatabaseAwayError: it does not answer.
        """
        working = asyncio.create_task(self._interpret(source, portion.records), name="interpretation")
        try:
            while not (await asyncio.wait([working], timeout=self._check_interval_s))[0]:
                await session.check()
            return working.result()
        finally:
            working.cancel()
            await asyncio.wait([working])

    async def _interpret(self, source: LogSource, records: Sequence[Record]) -> list[Interpretation]:
        return [await self._interpreter.interpret(source.topic(record), record) for record in records]


async def _write(session: ProjectionSession, batch: Batch) -> None:
    """Write `batch`. A record that the database refuses is found by halving and kept as an anomaly."""
    try:
        await session.write(batch)
    except BatchRefusedError as error:
        if len(batch.entries) > 1:
            for half in cut_at(batch, len(batch.entries) // 2):
                await _write(session, half)
            return
        entry = as_anomaly(batch.entries[0], f"refused by the database: {error}")
        _count(entry)
        await session.write(Batch(entries=[entry], moves=batch.moves))


def _count(entry: Interpretation) -> None:
    match entry:
        case Anomaly():
            metrics.ANOMALIES.labels(entry.record.topic).inc()
            log.error(
                "projector.anomaly", position=entry.record.position, type=entry.type, reason=entry.reason
            )
        case Skipped():
            metrics.SKIPPED.inc()


async def _wait(stop: asyncio.Event, seconds: float) -> None:
    if seconds > 0:
        with suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), seconds)
