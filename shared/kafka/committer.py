"""Commits the lowest unfinished offset of every partition: soon after it moves, and now and then anyway.

A commit that the broker takes also proves that this member still owns what it works on: a process that was
stopped or cut off for long finds out by it, before it does what its successor has done already.
"""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Final

import structlog
from aiokafka.errors import KafkaError, OffsetMetadataTooLargeError

from shared.kafka import metrics
from shared.kafka.backoff import backoff_s
from shared.kafka.commit_metadata import MAX_METADATA
from shared.kafka.partition import PartitionProcessor
from shared.kafka.records import Partition

__all__ = ["Committer"]

log = structlog.get_logger()

INTERVAL_S: Final = 0.2
PROOF_OF_LIFE_S: Final = 10.0
"""A commit at least so often, changed or not, shows whether the coordinator still knows this member."""

LEAST_METADATA: Final = 64
"""Characters of metadata that every broker takes: enough for a few blamed offsets."""

_CLOCK: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
"""Goes on while the machine sleeps, as the broker's clock does."""

Commit = Callable[[Mapping[Partition, tuple[int, str]]], Awaitable[None]]


class Committer:
    """Commits one batch of offsets at a time; a failed commit is made good by the next.

    Args:
        commit: sends offsets and metadata to the broker; raises KafkaError or TimeoutError.
        current: the partitions that may be committed now.
        session_s: silence after which the group gives this member's partitions to others.
    """

    def __init__(
        self, commit: Commit, current: Callable[[], Iterable[PartitionProcessor]], *, session_s: float
    ) -> None:
        self._send = commit
        self._current = current
        self._room = MAX_METADATA
        self._lock = asyncio.Lock()
        self._requested = asyncio.Event()
        self._succeeded_at = time.monotonic()
        self._proof_of_life_s = min(PROOF_OF_LIFE_S, session_s / 3)
        self._proof_lasts_s = session_s / 2
        self._proven_at: float | None = None
        self._proving = asyncio.Lock()

    @property
    def silence_s(self) -> float:
        """Seconds since the broker last took a commit, or since `reset`."""
        return time.monotonic() - self._succeeded_at

    def reset(self) -> None:
        """Count silence from now: before this there was nothing to commit."""
        self._succeeded_at = time.monotonic()

    def request(self) -> None:
        """Commit without waiting for the interval to end."""
        self._requested.set()

    async def run(self) -> None:
        """Commit what has changed, for ever."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(INTERVAL_S):  # `wait_for` may lose a cancellation
                    await self._requested.wait()
            self._requested.clear()
            await self.commit(self._current(), unchanged=self.silence_s > self._proof_of_life_s)

    def is_proven(self) -> bool:
        """Whether the last commit that the broker took was sent well within the session timeout."""
        proven_at = self._proven_at
        return proven_at is not None and time.clock_gettime(_CLOCK) - proven_at < self._proof_lasts_s

    async def prove(self) -> None:
        """Return once `is_proven`; commit for it if need be.

        A member that has lost its partitions never comes to that: its work is cancelled first.
        """
        waits = backoff_s(first_s=0.02, cap_s=0.5)
        while not self.is_proven():
            async with self._proving:
                if not self.is_proven():
                    await self.commit(self._current(), unchanged=True)
                if not self.is_proven():
                    await asyncio.sleep(next(waits))

    async def commit_including(self, processor: PartitionProcessor) -> None:
        """Commit every partition; returns when the broker has them, `processor` among them."""
        for wait_s in backoff_s(first_s=0.05, cap_s=1.0):
            current = list(self._current())
            if processor in current and await self.commit(current):
                return
            await asyncio.sleep(wait_s)

    async def commit(
        self, processors: Iterable[PartitionProcessor], *, clean: bool = False, unchanged: bool = False
    ) -> bool:
        """Commit those of `processors` that are open; whether the broker took it.

        Args:
            processors: the partitions to commit.
            clean: as for `PartitionProcessor.commit_point`.
            unchanged: commit also those whose commit would be the same as the last one.
        """
        async with self._lock:
            points = {
                each: each.commit_point(clean=clean, room=self._room) for each in processors if each.ready
            }
            due = {each: point for each, point in points.items() if unchanged or point != each.committed}
            if not due:
                return True
            sent_at = time.clock_gettime(_CLOCK)
            try:
                await self._send({each.partition: point for each, point in due.items()})
            except (KafkaError, TimeoutError) as error:
                self._note_failure(error)
                return False
        self._succeeded_at = time.monotonic()
        self._proven_at = sent_at
        metrics.COMMITS.inc()
        for each, point in due.items():
            each.acknowledge(point)
        return True

    def _note_failure(self, error: Exception) -> None:
        """Count it; a broker with a lower limit than ours gets less metadata from now on."""
        metrics.COMMIT_FAILURES.inc()
        log.warning("consumer.commit_failed", error=repr(error))
        if isinstance(error, OffsetMetadataTooLargeError):
            self._room = max(self._room // 2, LEAST_METADATA)
