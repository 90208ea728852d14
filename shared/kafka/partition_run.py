"""One partition while this process owns it: its records in work, its window, its commit point."""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Protocol

import structlog

from shared.kafka import metrics
from shared.kafka.backoff import backoff_s
from shared.kafka.offset_tracker import OffsetTracker, encode_done
from shared.kafka.records import Partition, Record

__all__ = ["PartitionRun", "RecordHandler"]

log = structlog.get_logger()


class RecordHandler(Protocol):
    """What is done with one record."""

    async def handle(self, record: Record) -> None:
        """Work on `record`. Returning means that its effect is durable and the offset may be committed.

        An exception means a fault of the infrastructure: the record is handled again after a back-off.
        """


class PartitionRun:
    """Handles a partition's records concurrently once it is open; until then it only collects them.

    `on_room` is called when a full window has become half empty.
    """

    def __init__(
        self,
        partition: Partition,
        handler: RecordHandler,
        *,
        window: int,
        window_bytes: int,
        on_room: Callable[["PartitionRun"], None],
    ) -> None:
        self.partition = partition
        self.paused = False
        self.committed: tuple[int, str] | None = None
        self._handler = handler
        self._window = window
        self._window_bytes = window_bytes
        self._on_room = on_room
        self._tracker: OffsetTracker | None = None
        self._waiting: deque[Record] = deque()
        self._bytes = 0
        self._held = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._gauge = metrics.IN_FLIGHT.labels(partition.topic, partition.number)

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

    def open(self, tracker: OffsetTracker) -> None:
        """Start to handle: `tracker` knows what former owners finished."""
        self._tracker = tracker
        self._dispatch()

    def accept(self, records: list[Record]) -> None:
        """Take fetched records, in their order."""
        self._held = False
        self._bytes += sum(record.size for record in records)
        self._waiting.extend(records)
        if self._tracker is not None:
            self._dispatch()

    def hold(self) -> set[asyncio.Task[None]]:
        """Start nothing more until records are accepted again; returns the work in flight.

        What waits is forgotten: it is fetched again from the commit.
        """
        self._held = True
        self._bytes -= sum(record.size for record in self._waiting)
        self._waiting.clear()
        return set(self._tasks)

    def commit_due(self) -> bool:
        """Whether the commit point has moved since the last commit."""
        return self._tracker is not None and self.commit_point() != self.committed

    def commit_point(self) -> tuple[int, str]:
        """Offset and metadata to commit."""
        if self._tracker is None:
            raise AssertionError("a partition that is not open has nothing to commit")
        offset = self._tracker.committable
        return offset, encode_done(offset, self._tracker.done())

    async def cancel(self) -> None:
        """End all work in flight; unfinished offsets stay uncommitted."""
        tasks = self.hold()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._gauge.set(0)

    def _dispatch(self) -> None:
        tracker = self._tracker
        while tracker is not None and self._waiting and len(self._tasks) < self._window:
            record = self._waiting.popleft()
            if tracker.start(record.offset):
                task = asyncio.create_task(self._work(tracker, record))
                self._tasks.add(task)
            else:
                self._bytes -= record.size
        self._gauge.set(len(self._tasks))

    async def _work(self, tracker: OffsetTracker, record: Record) -> None:
        try:
            await self._handle_until_done(record)
            tracker.finish(record.offset)
        finally:
            self._leave(record)

    async def _handle_until_done(self, record: Record) -> None:
        wait = backoff_s()
        while True:
            try:
                await self._handler.handle(record)
            except Exception as error:
                metrics.HANDLER_RETRIES.labels(record.topic).inc()
                log.warning("record.retried", record=record.position, error=repr(error), exc_info=True)
                await asyncio.sleep(next(wait))
            else:
                return

    def _leave(self, record: Record) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._tasks.discard(task)
        self._bytes -= record.size
        if not self._held:
            self._dispatch()
        if self.paused and self.has_room:
            self._on_room(self)
