"""Records that take their process down: blamed by the crash journal, run one at a time, ended at a limit.

A death is blamed only on the records that a slot held, or that this process was decoding. The process that
comes back finds them in its crash journal and quarantines them: one of them runs at a time in the process,
and everything else starts at once beside it. Before such a record is held again, the number of this run is
committed and acknowledged, so that whichever instance owns the partition next goes on counting. A record is
poison once as many of its runs have ended with their process as the limit says: the service writes its
outcome and runs it no more.

A poison record causes as many deaths as the limit at most, and one more each time its partition moves: a
death of which only the journal of another instance knows is not counted. One whose mere decoding kills causes
two more, when the service decodes it for its outcome.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final

import structlog

from shared.kafka import metrics
from shared.kafka.crash_journal import CrashJournal
from shared.kafka.records import Partition, Record

__all__ = ["ATTEMPTS", "Hold", "OnPoison", "PoisonTracker", "ProcessEndsError", "Quarantine"]

log = structlog.get_logger()

ATTEMPTS: Final = 5
"""Runs that end with the process before a record counts as poison: a long request that happens to be held at
four kills from outside still comes to its end."""

Handle = Callable[[Record], Awaitable[None]]
OnPoison = Callable[[Record, int], Awaitable[None]]
Commit = Callable[[], Awaitable[None]]


class ProcessEndsError(RuntimeError):
    """This process is about to end, and the record that is held may be the reason."""


class PoisonTracker:
    """The blamed records of one partition, and how many runs each has had.

    Args:
        attempts: runs by offset, as the last commit counts them.
        journal: names the records that the last life of this instance held at its death.
        partition: which of them belong here.
    """

    def __init__(self, attempts: Mapping[int, int], journal: CrashJournal, partition: Partition) -> None:
        self._attempts = dict(attempts)
        self._running: set[int] = set()
        self._journal = journal
        self._recovered: dict[int, int] = {}
        for entry, held in sorted(journal.recovered.items(), key=lambda each: each[1].attempt):
            if held.partition == partition:
                self.forget_entry(held.offset)
                self._recovered[held.offset] = entry

    def attempts(self, record: Record) -> int:
        """How many runs of `record` have ended with their process; 0 for a record without blame."""
        if record.offset in self._recovered:
            self._blame(record)
        return self._attempts.get(record.offset, 0)

    def _blame(self, record: Record) -> None:
        """Count the run that the journal names, unless the topic was made anew and this is another record."""
        held = self._journal.recovered[self._recovered[record.offset]]
        if held.timestamp_ms != record.timestamp_ms:
            self.forget_entry(record.offset)
        elif held.attempt > self._attempts.get(record.offset, 0):
            self._attempts[record.offset] = held.attempt
            metrics.BLAMED.labels(record.topic).inc()
            log.warning("record.blamed", record=record.position, deaths=held.attempt)

    def begin(self, offset: int) -> int:
        """Count a run of `offset`, which takes effect with the next commit; returns its number."""
        self._attempts[offset] += 1
        self._running.add(offset)
        return self._attempts[offset]

    def survive(self, offset: int) -> None:
        """Take the count of a run back: it has ended, and the process lives."""
        self._running.discard(offset)
        self._attempts[offset] -= 1

    def finish(self, offset: int) -> None:
        """Forget `offset`, which has come to its end."""
        self._attempts.pop(offset, None)
        self.forget_entry(offset)

    def to_commit(self, committed: int, *, clean: bool) -> dict[int, int]:
        """The runs by offset for a commit of `committed`.

        Args:
            committed: the offset to be committed; those below it are forgotten.
            clean: leave out the runs that go on, for an owner that gives the partition up in good order.
        """
        for offset in [each for each in self._recovered if each < committed]:
            self.forget_entry(offset)
        self._attempts = {offset: count for offset, count in self._attempts.items() if offset >= committed}
        discount = self._running if clean else frozenset()
        counted = {offset: count - (offset in discount) for offset, count in self._attempts.items()}
        return {offset: count for offset, count in counted.items() if count}

    def forget_entry(self, offset: int) -> None:
        """Drop the journal's entry of the last life, if there is one: it is not needed any more."""
        entry = self._recovered.pop(offset, None)
        if entry is not None:
            self._journal.clear(entry)


class Hold:
    """Entered while a slot has a record, or this process decodes it: a death in between is blamed on it.

    A `ProcessEndsError` leaves the journal's entry behind.
    """

    __slots__ = ("_entry", "_quarantine", "_record", "_run")

    def __init__(self, quarantine: "Quarantine", record: Record) -> None:
        self._quarantine = quarantine
        self._record = record
        self._run: _Run | None = None
        self._entry: int | None = None

    async def __aenter__(self) -> None:
        quarantine, record, attempt = self._quarantine, self._record, 1
        if quarantine.running is not None and quarantine.running.record is record:
            self._run = quarantine.running
            attempt = await self._run.begin()
        if quarantine.journal is not None:
            self._entry = quarantine.journal.write(record, attempt)
            if self._entry is None:
                log.error("crash_journal.full", record=record.position, hint="its death would not be blamed")
        if self._run is not None:
            self._run.tracker.forget_entry(record.offset)

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if isinstance(exc, ProcessEndsError):
            return
        if self._entry is not None and self._quarantine.journal is not None:
            self._quarantine.journal.clear(self._entry)
        if self._run is not None:
            self._run.tracker.survive(self._record.offset)


@dataclass(frozen=True, slots=True)
class _Run:
    """The run of a quarantined record."""

    record: Record
    tracker: PoisonTracker
    commit: Commit

    async def begin(self) -> int:
        """Count a run and wait until the broker knows; returns its number."""
        number = self.tracker.begin(self.record.offset)
        try:
            await self.commit()
        except BaseException:
            self.tracker.survive(self.record.offset)
            raise
        log.warning("record.quarantined", record=self.record.position, attempt=number)
        metrics.QUARANTINE_RUNS.inc()
        return number


class Quarantine:
    """Runs the blamed records of a process one at a time; `limit` is the number `attempts`.

    Args:
        directory: where the crash journal lies; it has to outlive the process.
        attempts: runs that end with the process before a record counts as poison.
    """

    def __init__(self, directory: Path, attempts: int = ATTEMPTS) -> None:
        self.journal: CrashJournal | None = None
        self.running: _Run | None = None
        self._directory = directory
        self.limit = attempts
        self._alone = asyncio.Lock()

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
        if self.journal is None:
            raise AssertionError("the crash journal is not open")
        return PoisonTracker(attempts, self.journal, partition)

    def hold(self, record: Record) -> Hold:
        """For a handler: to be entered while a slot has `record`, or this process decodes it."""
        return Hold(self, record)

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
            self.running = _Run(record, tracker, commit)
            try:
                if attempts < self.limit:
                    await handle(record)
                else:
                    log.error("record.poison", record=record.position, attempts=attempts)
                    await on_poison(record, attempts)
                    metrics.POISON.labels(record.topic).inc()
            finally:
                self.running = None
            tracker.finish(record.offset)
