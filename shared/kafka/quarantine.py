"""Runs the blamed records of a process one at a time, beside everything else; `poison` has the rules."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import structlog

from shared.kafka import metrics
from shared.kafka.crash_journal import CrashJournal
from shared.kafka.poison import ATTEMPTS, PoisonTracker
from shared.kafka.records import Partition, Record

__all__ = ["OnPoison", "ProcessEndsError", "Quarantine"]

log = structlog.get_logger()

Handle = Callable[[Record], Awaitable[None]]
OnPoison = Callable[[Record, int], Awaitable[None]]
Commit = Callable[[], Awaitable[None]]


class ProcessEndsError(RuntimeError):
    """This process is about to end, and the record that is held may be the reason."""


class _Run(NamedTuple):
    """A quarantined record, the count of its runs, and how to have that acknowledged."""

    record: Record
    tracker: PoisonTracker
    commit: Commit


class Quarantine:
    """Runs the blamed records of a process one at a time; `limit` is the number `attempts`.

    Args:
        directory: where the crash journal lies; it has to outlive the process.
        attempts: runs that end with the process before a record counts as poison.
    """

    def __init__(self, directory: Path, attempts: int = ATTEMPTS) -> None:
        self.journal: CrashJournal | None = None
        self._directory = directory
        self.limit = attempts
        self._alone = asyncio.Lock()
        self._running: _Run | None = None
        self._survived: defaultdict[Partition, dict[int, int]] = defaultdict(dict)

    def open(self, instance: str, group: str, cluster: str) -> None:
        """Read the journal that the last life of `instance` has left; without effect when it is open.

        Raises:
            OSError: the journal cannot be opened; the message says which file and why.
        """
        if self.journal is not None:
            return
        path = self._directory / f"{group}-{instance}.journal"
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.journal = CrashJournal(path, f"{instance}\0{group}\0{cluster}")
        except BlockingIOError as error:
            raise OSError(f"{path} is held by another living process called {instance}") from error
        except OSError as error:
            raise OSError(f"the crash journal {path} cannot be used: {error}") from error

    def recovered(self) -> frozenset[Partition]:
        """The partitions of records that the last life held at its death."""
        return frozenset(held.partition for held in self._opened.recovered.values())

    def prune(self, committed: Mapping[Partition, int]) -> None:
        """Drop what the journal says about records below the committed offset of their partition.

        They have ended. An owner does this for its own partitions; entries of one that never comes back to
        this instance would stay, and take the room of others.
        """
        for entry, held in list(self._opened.recovered.items()):
            if held.offset < committed.get(held.partition, 0):
                self._opened.clear(entry)

    def close(self) -> None:
        """Let go of the journal."""
        if self.journal is not None:
            self.journal.close()
            self.journal = None

    def tracker(self, partition: Partition, attempts: Mapping[int, int]) -> PoisonTracker:
        """The blamed records of `partition`, given the runs that its last commit counts.

        Raises:
            AssertionError: the journal is not open.
        """
        return PoisonTracker(attempts, self._opened, partition, self._survived[partition])

    @property
    def _opened(self) -> CrashJournal:
        if self.journal is None:
            raise AssertionError("the crash journal is not open")
        return self.journal

    async def run(
        self,
        record: Record,
        tracker: PoisonTracker,
        *,
        handle: Handle,
        on_poison: OnPoison,
        commit: Commit,
    ) -> None:
        """Handle a blamed record while no other one runs, or end it as poison.

        Args:
            record: the record.
            tracker: counts its runs.
            handle: as for any other record.
            on_poison: writes the outcome of a poison record, given the number of its runs; durable on return.
            commit: returns once a commit made from now on is acknowledged.
        """
        async with self._alone:
            attempts = tracker.attempts(record)
            self._running = _Run(record, tracker, commit)
            try:
                if attempts < self.limit:
                    await handle(record)
                else:
                    log.error("record.poison", record=record.position, attempts=attempts)
                    await on_poison(record, attempts)
                    metrics.POISON.labels(record.topic).inc()
            finally:
                self._running = None
            tracker.finish(record.offset)

    @asynccontextmanager
    async def hold(self, record: Record) -> AsyncIterator[None]:
        """For a handler: entered while a slot has `record`, or this process decodes it.

        A death in between is blamed on the record. A run of a blamed one is counted, and acknowledged, first.
        A `ProcessEndsError` leaves the journal's entry behind.
        """
        run = self._running if self._running is not None and self._running.record is record else None
        attempt = 1 if run is None else await self._begin(run)
        entry = self._note(record, attempt)
        if run is not None:
            run.tracker.forget_entry(record.offset)
        survived = True
        try:
            yield
        except ProcessEndsError:
            survived = False
            raise
        finally:
            if survived:
                self._clear(entry)
                if run is not None:
                    run.tracker.survive(record.offset)

    async def _begin(self, run: _Run) -> int:
        """Count a run and wait until the broker knows; returns its number."""
        number = run.tracker.begin(run.record.offset)
        try:
            await run.commit()
        except BaseException:
            run.tracker.survive(run.record.offset)
            raise
        log.warning("record.quarantined", record=run.record.position, attempt=number)
        metrics.QUARANTINE_RUNS.inc()
        return number

    def _note(self, record: Record, attempt: int) -> int | None:
        """Write the journal's entry for a run; None where there is none."""
        entry = None
        if self.journal is not None:
            entry = self.journal.write(record, attempt)
            if entry is None:
                log.error("crash_journal.full", record=record.position, hint="its death would not be blamed")
        return entry

    def _clear(self, entry: int | None) -> None:
        if entry is not None and self.journal is not None:
            self.journal.clear(entry)
