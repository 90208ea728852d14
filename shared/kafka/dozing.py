"""Partitions that are fetched at intervals: what they hold is not due for seconds.

The client asks for every partition in every fetch, and a fetch is answered as soon as one of them has a
record. So each record of a busy topic costs both ends some work for every idle partition beside it: with 56
partitions most of a core went into that at 200 records a second. Partitions that doze are left out, but for
a moment every second, and for as long as they have something.
"""

import asyncio
from collections.abc import Callable, Iterable
from typing import Final

from shared.kafka.partition_run import PartitionRun
from shared.kafka.records import Partition

__all__ = ["Dozing"]

ASLEEP_S: Final = 0.9
AWAKE_S: Final = 0.15
"""Long enough for a fetch that is under way to end empty, and for the next one."""


class Dozing:
    """Which partitions of `topics` are left out now; `steer` is called for each whose state may change."""

    def __init__(
        self,
        topics: frozenset[str],
        runs: Callable[[], Iterable[PartitionRun]],
        steer: Callable[[PartitionRun], None],
    ) -> None:
        self._topics = topics
        self._runs = runs
        self._steer = steer
        self._awake = True
        self._busy: set[Partition] = set()

    def asleep(self, partition: Partition) -> bool:
        """Whether `partition` is not to be fetched now."""
        return not self._awake and partition.topic in self._topics and partition not in self._busy

    def rouse(self, partition: Partition) -> None:
        """`partition` has something, or may have: fetch it until the next look finds it idle."""
        self._busy.add(partition)

    async def run(self) -> None:
        """Look at intervals until cancelled."""
        while self._topics:
            await asyncio.sleep(ASLEEP_S)
            self._busy.clear()
            self._wake(awake=True)
            await asyncio.sleep(AWAKE_S)
            self._wake(awake=False)

    def _wake(self, *, awake: bool) -> None:
        self._awake = awake
        for run in self._runs():
            if run.partition.topic in self._topics:
                self._steer(run)
