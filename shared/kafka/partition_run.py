"""One partition while this process owns it: its records in work, its window, its commit point."""

import asyncio
import sys
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from typing import Final, NamedTuple, Protocol

import structlog

from shared.kafka import metrics
from shared.kafka.commit_note import CommitNote, encode_note
from shared.kafka.offset_tracker import OffsetTracker
from shared.kafka.records import Partition, Record
from shared.kafka.suspicion import Suspicion

__all__ = ["CommitPoint", "PartitionRun", "RunOwner", "drain", "end_work"]

log = structlog.get_logger()

Work = Callable[[Record], Awaitable[None]]

CANCEL_TIMEOUT_S: Final = 5.0
UNLIMITED: Final = sys.maxsize


class CommitPoint(NamedTuple):
    """What to commit, and up to where records may be started once it is."""

    offset: int
    metadata: str
    hi: int


class RunOwner(Protocol):
    """What a partition's run asks of its consumer."""

    async def handle(self, record: Record) -> None:
        """Handle `record` until that has succeeded."""

    def on_room(self, run: "PartitionRun") -> None:
        """A full window has become half empty."""

    def on_exhausted(self) -> None:
        """Records wait for a commit that lets them start."""

    def on_suspect(self) -> None:
        """A record waits to be run alone."""

    def may_start(self) -> bool:
        """Whether nothing runs alone just now."""

    def on_bug(self, error: BaseException) -> None:
        """An error that no retry mends."""


class PartitionRun:
    """Handles a partition's records concurrently once it is open; until then it only collects them."""

    def __init__(self, partition: Partition, owner: RunOwner, *, window: int, window_bytes: int) -> None:
        self.partition = partition
        self.paused = False
        self.blocked = False
        self.committed: CommitPoint | None = None
        self.opening: asyncio.Task[None] | None = None
        self._owner = owner
        self._window = window
        self._window_bytes = window_bytes
        self._tracker: OffsetTracker | None = None
        self._suspicion: Suspicion | None = None
        self._limit = UNLIMITED
        self._started_at_commit = 0
        self._waiting: deque[Record] = deque()
        self._bytes = 0
        self._held = False
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def ready(self) -> bool:
        """Whether records are being handled."""
        return self._tracker is not None

    @property
    def full(self) -> bool:
        """Whether no more records should be fetched for now."""
        count = len(self._tasks) + len(self._waiting)
        return self._tracker is None or count >= self._window or self._bytes >= self._window_bytes

    @property
    def has_room(self) -> bool:
        """Whether fetching is worth while again: half the window is free."""
        count = len(self._tasks) + len(self._waiting)
        return self.ready and count <= self._window // 2 and self._bytes <= self._window_bytes // 2

    @property
    def tasks(self) -> set[asyncio.Task[None]]:
        """The work in flight."""
        return set(self._tasks)

    @property
    def committable(self) -> int:
        """The lowest unfinished offset."""
        return self._opened.committable

    @property
    def _opened(self) -> OffsetTracker:
        if self._tracker is None:
            raise AssertionError(f"{self.partition} is not open")
        return self._tracker

    def open(self, tracker: OffsetTracker, suspicion: Suspicion | None = None) -> None:
        """Start to handle: `tracker` knows what former owners finished, `suspicion` how they ended."""
        self._tracker = tracker
        self._suspicion = suspicion
        in_flight = metrics.IN_FLIGHT.labels(self.partition.topic, self.partition.number)
        in_flight.set_function(lambda: len(self._tasks))
        if suspicion is not None:
            self._limit = tracker.position
            self._started_at_commit = tracker.position
        self.dispatch()

    def accept(self, records: list[Record]) -> None:
        """Take fetched records, in their order."""
        self._held = False
        self._bytes += sum([record.size for record in records])
        self._waiting.extend(records)
        self.dispatch()

    def advance(self, position: int) -> None:
        """Everything below `position` has been fetched; what was not seen there does not exist."""
        if self._tracker is not None and not self._waiting and not self._held:
            self._tracker.advance(position)

    def hold(self) -> set[asyncio.Task[None]]:
        """Start nothing more until records are accepted again; returns the work in flight.

        What waits is forgotten: it is fetched again from the commit.
        """
        self._held = True
        self._bytes -= sum(record.size for record in self._waiting)
        self._waiting.clear()
        return set(self._tasks)

    def release(self) -> None:
        """The partition stays here after all: its pause is gone with the assignment, its work goes on."""
        self._held = False
        self.paused = False
        self.blocked = False

    def cancel(self) -> set[asyncio.Task[None]]:
        """Cancel all that goes on here, and return it; unfinished offsets stay uncommitted."""
        tasks = self.hold() | ({self.opening} if self.opening else set())
        for task in tasks:
            task.cancel()
        return tasks

    def commit_point(self, *, clean: bool = False) -> CommitPoint:
        """What to commit now; `clean` when a death from here on is not to be blamed on what is in flight."""
        tracker = self._opened
        if self._suspicion is None:
            offset = tracker.committable
            note = CommitNote(hi=offset, done=tuple(tracker.done()))
        else:
            note = self._suspicion.note(tracker, self._next_limit(), clean=clean)
        return CommitPoint(tracker.committable, encode_note(tracker.committable, note), note.hi)

    def commit_done(self, point: CommitPoint) -> None:
        """`point` is committed."""
        self.committed = point
        if self._suspicion is not None:
            self._limit = point.hi
            self._started_at_commit = self._opened.position
            self.dispatch()

    def _next_limit(self) -> int:
        """How far to reserve: twice what the last interval started, raised when half of it is used."""
        position = self._opened.position
        suspicion = self._suspicion
        if suspicion is not None and (suspicion.alone or suspicion.is_suspect(position)):
            return position
        reserve = max(suspicion.reserve if suspicion else 0, 2 * (position - self._started_at_commit))
        return self._limit if position + reserve // 2 <= self._limit else position + reserve

    def dispatch(self) -> None:
        """Start what may be started."""
        tracker = self._tracker
        if tracker is None or self._held:
            return
        while self._waiting and len(self._tasks) < self._window and self._owner.may_start():
            if not self._may_start(self._waiting[0].offset):
                break
            record = self._waiting.popleft()
            if tracker.start(record.offset):
                self._spawn(record, self._owner.handle)
            else:
                self._bytes -= record.size
        self._tell_room()

    def _tell_room(self) -> None:
        """What waits gets less by work that ends, and by finished offsets that are passed over."""
        if self.blocked and self.has_room:
            self._owner.on_room(self)

    def take_suspect(self) -> tuple[Record, Suspicion] | None:
        """Take the next record into work if it has to run alone; `start_alone` is to follow."""
        tracker, suspicion = self._tracker, self._suspicion
        if tracker is None or suspicion is None or self._held:
            return None
        while self._waiting and suspicion.is_suspect(self._waiting[0].offset):
            record = self._waiting.popleft()
            if tracker.start(record.offset):
                return record, suspicion
            self._bytes -= record.size
        return None

    def start_alone(self, record: Record, work: Work) -> asyncio.Task[None]:
        """Have `work` done on a record that `take_suspect` gave; its offset is finished with it."""
        return self._spawn(record, work)

    def _spawn(self, record: Record, work: Work) -> asyncio.Task[None]:
        task = asyncio.create_task(self._work(record, work))
        self._tasks.add(task)
        task.add_done_callback(self._leave)
        return task

    def _may_start(self, offset: int) -> bool:
        if self._suspicion is not None and self._suspicion.is_suspect(offset):
            self._owner.on_suspect()
            return False
        if offset >= self._limit:
            self._owner.on_exhausted()
            return False
        return True

    async def _work(self, record: Record, work: Work) -> None:
        try:
            await work(record)
            self._opened.finish(record.offset)
        finally:
            self._bytes -= record.size

    def _leave(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._owner.on_bug(error)
        if self._waiting:
            self.dispatch()
        else:
            self._tell_room()


async def drain(runs: Iterable[PartitionRun], timeout_s: float) -> None:
    """Start nothing more; wait for work in flight to end, at most `timeout_s`."""
    work = [task for run in runs for task in run.hold()]
    if work:
        await asyncio.wait(work, timeout=timeout_s)


async def end_work(runs: Iterable[PartitionRun]) -> None:
    """Cancel all work of `runs` and wait until it has ended."""
    work = [task for run in runs for task in run.cancel()]
    if work:
        _, pending = await asyncio.wait(work, timeout=CANCEL_TIMEOUT_S)
        if pending:
            log.error("consumer.work_outlives_cancellation", tasks=len(pending))
