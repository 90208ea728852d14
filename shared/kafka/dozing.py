"""Partitions that are fetched at intervals: what they hold is not due for seconds.

The client asks for every partition in every fetch, and a fetch is answered as soon as one of them has a
record. So each record of a busy topic costs both ends some work for every idle partition beside it. One that
dozes is left out once a fetch has found nothing in it, and asked for again a second later.
"""

import asyncio
import time
from collections.abc import Callable, Iterable
from typing import Final

from shared.kafka.partition_run import PartitionRun
from shared.kafka.records import Partition

__all__ = ["ASLEEP_S", "Dozing"]

ASLEEP_S: Final = 0.8
LOOK_S: Final = 0.1


class Dozing:
    """Which partitions of `topics` are left out now.

    Args:
        topics: whose partitions doze.
        runs: the partitions that are owned now.
        steer: called for a partition that falls asleep or wakes.
        answered_s: when the broker last answered for a partition, in seconds since the epoch.
    """

    def __init__(
        self,
        topics: frozenset[str],
        runs: Callable[[], Iterable[PartitionRun]],
        steer: Callable[[PartitionRun], None],
        answered_s: Callable[[Partition], float],
    ) -> None:
        self._topics = topics
        self._runs = runs
        self._steer = steer
        self._answered_s = answered_s
        self._asleep_since: dict[Partition, float] = {}
        """By the monotonic clock: nothing may sleep through a clock that is set back."""

        self._awake_since: dict[Partition, float] = {}

    def asleep(self, partition: Partition) -> bool:
        """Whether `partition` is not to be fetched now."""
        return partition in self._asleep_since

    def rouse(self, partition: Partition) -> None:
        """`partition` has something, or may have: fetch it until an answer has brought nothing."""
        if partition.topic in self._topics:
            self._awake_since[partition] = time.time()
            self._asleep_since.pop(partition, None)

    async def run(self) -> None:
        """Look at intervals until cancelled."""
        while self._topics:
            await asyncio.sleep(LOOK_S)
            for run in self._runs():
                if run.partition.topic in self._topics:
                    self._look(run)

    def _look(self, run: PartitionRun) -> None:
        partition, now_s = run.partition, time.monotonic()
        asleep_since_s = self._asleep_since.get(partition)
        if asleep_since_s is None:
            if self._answered_s(partition) > self._awake_since.setdefault(partition, time.time()):
                self._asleep_since[partition] = now_s
                self._steer(run)
        elif now_s - asleep_since_s >= ASLEEP_S:
            self.rouse(partition)
            self._steer(run)
