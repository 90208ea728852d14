"""One partition while this process owns it: its records in work, its window, its commit point."""

import asyncio
from collections import deque
from collections.abc import Iterable
from typing import Final, NamedTuple, Protocol

import structlog

from shared.kafka import metrics
from shared.kafka.commit_metadata import MAX_METADATA, CommitMetadata, decode_metadata, encode_metadata
from shared.kafka.offset_tracker import OffsetTracker
from shared.kafka.poison import PoisonTracker
from shared.kafka.records import Partition, Record

__all__ = ["ByteBudget", "CommitPoint", "PartitionOwner", "PartitionProcessor", "cancel_all", "drain_all"]

log = structlog.get_logger()

CANCEL_TIMEOUT_S: Final = 5.0


class CommitPoint(NamedTuple):
    """An offset to commit, and the text beside it."""

    offset: int
    metadata: str


class ByteBudget:
    """Bounds the bytes of records that a process has fetched and not finished.

    Any partition may take from the first half of the limit. Once that half is taken the process is `crowded`:
    a partition that has more than its `share`, an equal part of the second half, is fetched no more. So a
    backlog in some partitions leaves room for the others.
    """

    __slots__ = ("_limit", "share", "total")

    def __init__(self, limit: int) -> None:
        self.total = 0
        self.share = limit // 2
        self._limit = limit

    def divide(self, partitions: int) -> None:
        """Set the share for so many partitions."""
        self.share = self._limit // (2 * max(1, partitions))

    @property
    def crowded(self) -> bool:
        """Whether the common half is used up."""
        return self.total >= self._limit // 2


class PartitionOwner(Protocol):
    """The member that a partition belongs to."""

    async def handle(self, record: Record) -> None:
        """Handle `record` until that has succeeded."""

    async def quarantine(self, processor: "PartitionProcessor", record: Record) -> None:
        """Handle a record that a death is blamed on, until that has succeeded."""

    def on_room(self, processor: "PartitionProcessor") -> None:
        """A full window has become half empty."""

    def on_bug(self, error: BaseException) -> None:
        """An error that no retry mends."""


class PartitionProcessor:
    """Handles a partition's records concurrently once it is open; until then it only collects them.

    Args:
        partition: which one.
        owner: the member.
        window: records in work or waiting for it, beyond which no more are fetched.
        window_bytes: their bytes, likewise; one record is taken whatever its size.
        budget: shared by the partitions of the process.
    """

    def __init__(
        self,
        partition: Partition,
        owner: PartitionOwner,
        *,
        window: int,
        window_bytes: int,
        budget: ByteBudget,
    ) -> None:
        self.partition = partition
        self.paused = False
        self.blocked = False
        self.committed: CommitPoint | None = None
        self.opening: asyncio.Task[None] | None = None
        self.poison: PoisonTracker | None = None
        self._owner = owner
        self._window = window
        self._window_bytes = window_bytes
        self._budget = budget
        self._tracker: OffsetTracker | None = None
        self._waiting: deque[Record] = deque()
        self._bytes = 0
        self._suspended = False
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def ready(self) -> bool:
        """Whether records are being handled."""
        return self._tracker is not None

    @property
    def full(self) -> bool:
        """Whether no more records should be fetched for now."""
        count = len(self._tasks) + len(self._waiting)
        return self._tracker is None or count >= self._window or self._bytes >= self._most_bytes

    @property
    def has_room(self) -> bool:
        """Whether fetching is worth while again: half the window is free."""
        count = len(self._tasks) + len(self._waiting)
        return self.ready and count <= self._window // 2 and self._bytes <= self._most_bytes // 2

    @property
    def _most_bytes(self) -> int:
        return min(self._window_bytes, self._budget.share) if self._budget.crowded else self._window_bytes

    @property
    def committable(self) -> int:
        """The lowest unfinished offset."""
        return self._opened.committable

    @property
    def oldest_ms(self) -> int | None:
        """Timestamp of the lowest unfinished record that was fetched, in ms since the epoch."""
        in_flight = self._opened.oldest_ms
        if in_flight is None and self._waiting:
            return self._waiting[0].timestamp_ms
        return in_flight

    @property
    def _opened(self) -> OffsetTracker:
        if self._tracker is None:
            raise AssertionError(f"{self.partition} is not open")
        return self._tracker

    def open(self, tracker: OffsetTracker, poison: PoisonTracker | None = None) -> None:
        """Start to handle.

        Args:
            tracker: knows the offsets that former owners finished.
            poison: knows the blamed records, if the service has a quarantine.
        """
        self._tracker = tracker
        self.poison = poison
        in_flight = metrics.IN_FLIGHT.labels(self.partition.topic, self.partition.number)
        in_flight.set_function(lambda: len(self._tasks))
        self._dispatch()

    def accept(self, records: list[Record]) -> None:
        """Take fetched records, in their order."""
        self._suspended = False
        self._count_bytes(sum([record.size for record in records]))
        self._waiting.extend(records)
        self._dispatch()

    def advance(self, position: int) -> None:
        """Count every offset below `position` that was not fetched as absent from the log."""
        if self._tracker is not None and not self._suspended:
            self._tracker.advance(self._waiting[0].offset if self._waiting else position)

    def suspend(self) -> set[asyncio.Task[None]]:
        """Start nothing more until records are accepted again; returns the work in flight.

        Records that wait are forgotten: they are fetched again from the commit.
        """
        self._suspended = True
        self._count_bytes(-sum([record.size for record in self._waiting]))
        self._waiting.clear()
        return set(self._tasks)

    def adopt(self) -> None:
        """Go on: the partition stays here after all. Its pause is gone with the assignment."""
        self._suspended = False
        self.paused = False
        self.blocked = False

    def cancel(self) -> set[asyncio.Task[None]]:
        """Cancel all that goes on here, and return it; unfinished offsets stay uncommitted."""
        tasks = self.suspend() | ({self.opening} if self.opening else set())
        for task in tasks:
            task.cancel()
        return tasks

    def commit_point(self, *, clean: bool = False, room: int = MAX_METADATA) -> CommitPoint:
        """The offset to commit now.

        Args:
            clean: leave out the runs of blamed records that go on: they end in good order.
            room: characters that the broker takes as metadata.
        """
        committable = self._opened.committable
        attempts = self.poison.to_commit(committable, clean=clean) if self.poison is not None else {}
        metadata = CommitMetadata(attempts=attempts, done=tuple(self._opened.done()))
        return CommitPoint(committable, encode_metadata(committable, metadata, room))

    def acknowledge(self, point: CommitPoint) -> None:
        """The broker has `point`."""
        self.committed = point
        if self.poison is not None and self.poison.unsettled:
            self.poison.acknowledge(decode_metadata(*point).attempts)

    def _dispatch(self) -> None:
        """Start as many records as the window takes."""
        tracker = self._tracker
        if tracker is None or self._suspended:
            return
        while self._waiting and len(self._tasks) < self._window:
            record = self._waiting.popleft()
            if tracker.start(record.offset, record.timestamp_ms):
                task = asyncio.create_task(self._work(record))
                self._tasks.add(task)
                task.add_done_callback(self._leave)
            else:
                self._count_bytes(-record.size)
        if self.blocked and self.has_room:
            self._owner.on_room(self)

    async def _work(self, record: Record) -> None:
        try:
            if self.poison is not None and self.poison.attempts(record):
                await self._owner.quarantine(self, record)
            else:
                await self._owner.handle(record)
            self._opened.finish(record.offset)
        finally:
            self._count_bytes(-record.size)

    def _count_bytes(self, size: int) -> None:
        self._bytes += size
        self._budget.total += size

    def _leave(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._owner.on_bug(error)
        self._dispatch()


async def drain_all(processors: Iterable[PartitionProcessor], timeout_s: float) -> None:
    """Start nothing more; wait for work in flight to end, at most `timeout_s`."""
    work = [task for each in processors for task in each.suspend()]
    if work:
        await asyncio.wait(work, timeout=timeout_s)


async def cancel_all(processors: Iterable[PartitionProcessor]) -> None:
    """Cancel all work of `processors` and wait until it has ended."""
    work = [task for each in processors for task in each.cancel()]
    if work:
        _, pending = await asyncio.wait(work, timeout=CANCEL_TIMEOUT_S)
        if pending:
            log.error("consumer.work_outlives_cancellation", tasks=len(pending))
