"""Idle partitions that are fetched at intervals: their records are not due for seconds.

The client library asks for every partition in every fetch, and the broker answers as soon as one of them has
a record. So each record of a busy topic costs both ends some work for every idle partition beside it. An idle
partition is paused once a fetch has found nothing in it, and fetched again a second later.
"""

import asyncio
import time
from collections.abc import Callable, Iterable
from typing import Final

from shared.kafka.partition import PartitionProcessor
from shared.kafka.records import Partition

__all__ = ["PAUSED_S", "IdlePauser"]

PAUSED_S: Final = 0.8
LOOK_S: Final = 0.1


class IdlePauser:
    """Decides which partitions of `topics` are paused as idle.

    Args:
        topics: full names of the topics whose idle partitions are paused.
        current: the partitions that are owned now.
        steer: called for a partition that begins or ends to be idle.
        answered_s: when the broker last answered for a partition, in seconds since the epoch.
    """

    def __init__(
        self,
        topics: frozenset[str],
        current: Callable[[], Iterable[PartitionProcessor]],
        steer: Callable[[PartitionProcessor], None],
        answered_s: Callable[[Partition], float],
    ) -> None:
        self._topics = topics
        self._current = current
        self._steer = steer
        self._answered_s = answered_s
        self._paused_since: dict[Partition, float] = {}
        """By the monotonic clock: a wall clock that is set back must not lengthen a pause."""

        self._awake_since: dict[Partition, float] = {}

    def is_paused(self, partition: Partition) -> bool:
        """Whether `partition` is paused as idle."""
        return partition in self._paused_since

    def wake(self, partition: Partition) -> None:
        """Fetch `partition` until an answer has brought nothing: it has records, or may have."""
        if partition.topic in self._topics:
            self._awake_since[partition] = time.time()
            self._paused_since.pop(partition, None)

    async def run(self) -> None:
        """Look at intervals until cancelled."""
        while self._topics:
            await asyncio.sleep(LOOK_S)
            for processor in self._current():
                if processor.partition.topic in self._topics:
                    self._look(processor)

    def _look(self, processor: PartitionProcessor) -> None:
        partition, now_s = processor.partition, time.monotonic()
        paused_since_s = self._paused_since.get(partition)
        if paused_since_s is None:
            if self._answered_s(partition) > self._awake_since.setdefault(partition, time.time()):
                self._paused_since[partition] = now_s
                self._steer(processor)
        elif now_s - paused_since_s >= PAUSED_S:
            self.wake(partition)
            self._steer(processor)
