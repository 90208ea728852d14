"""The partitions that the group has given to a member: which may be committed, paused, or stand still."""

from collections.abc import Iterable, Mapping

import structlog

from shared.kafka import metrics
from shared.kafka.group_client import GroupClient
from shared.kafka.idle_pause import IdlePauser
from shared.kafka.partition import ByteBudget, PartitionOwner, PartitionProcessor
from shared.kafka.records import Partition, Record

__all__ = ["Assignment"]

log = structlog.get_logger()


class Assignment:
    """The processors of a member's partitions.

    Args:
        client: fetches, pauses and resumes.
        idle_topics: topics whose idle partitions are fetched at intervals.
        windows: records of one partition in work at a time, by topic.
        window_bytes: their bytes.
        budget_bytes: bytes of records in work or waiting for it, in all partitions together.
    """

    def __init__(
        self,
        client: GroupClient,
        *,
        idle_topics: frozenset[str],
        windows: Mapping[str, int],
        window_bytes: int,
        budget_bytes: int,
    ) -> None:
        self.assigned: frozenset[Partition] = frozenset()
        self.alarmed: frozenset[Partition] = frozenset()
        self.processors: dict[Partition, PartitionProcessor] = {}
        self.idle = IdlePauser(idle_topics, self.current, self.steer, client.answered_s)
        self._client = client
        self._windows = windows
        self._window_bytes = window_bytes
        self._budget = ByteBudget(budget_bytes)

    def current(self) -> list[PartitionProcessor]:
        """The partitions that may be committed now."""
        return [found for each in self.assigned if (found := self.processors.get(each)) is not None]

    @property
    def handled(self) -> bool:
        """Whether every partition without an alarm is being handled."""
        return all(
            each in self.processors and self.processors[each].ready for each in self.assigned - self.alarmed
        )

    def replace(
        self, assigned: frozenset[Partition], kept: Iterable[Partition], owner: PartitionOwner
    ) -> list[PartitionProcessor]:
        """Make `assigned` the partitions of this member; returns the processors that belong to it no more.

        Those of `kept` go on.
        """
        self._budget.divide(len(assigned))
        former, kept = self.processors, set(kept)
        self.assigned = assigned
        self.processors = {
            each: former[each] if each in kept else self._new(each, owner) for each in assigned
        }
        for each in kept:
            former[each].adopt()
            self.steer(former[each])
        return [processor for each, processor in former.items() if each not in kept]

    def _new(self, partition: Partition, owner: PartitionOwner) -> PartitionProcessor:
        return PartitionProcessor(
            partition,
            owner,
            window=self._windows[partition.topic],
            window_bytes=self._window_bytes,
            budget=self._budget,
        )

    def accept(self, batches: Mapping[Partition, list[Record]]) -> None:
        """Take fetched records, and pass over the offsets that the log does not hold."""
        for partition, records in batches.items():
            processor = self.processors.get(partition)
            if processor is not None and partition in self.assigned:
                processor.accept(records)
                self.idle.wake(partition)
                self.steer(processor)
        for processor in self.current():
            processor.advance(self._client.position(processor.partition))
            if processor.blocked:  # others may have made room in the budget
                self.steer(processor)

    def steer(self, processor: PartitionProcessor) -> None:
        """Pause a partition that is idle, or whose window is full until that is half empty; resume others."""
        partition = processor.partition
        if partition not in self.assigned or partition in self.alarmed:
            return
        if processor.full and not processor.blocked:
            processor.blocked = True
            metrics.PAUSES.labels(partition.topic).inc()
        elif processor.blocked and processor.has_room:
            processor.blocked = False
            self.idle.wake(partition)
        pause = processor.blocked or self.idle.is_paused(partition)
        if pause != processor.paused:
            processor.paused = pause
            (self._client.pause if pause else self._client.resume)(partition)

    def alarm(self, partitions: Iterable[Partition], reason: str) -> None:
        """Stop partitions that cannot be read on, loudly: skipping would lose requests in silence."""
        for partition in partitions:
            self._client.park(partition)
            if partition not in self.alarmed:
                self.alarmed |= {partition}
                metrics.ALARMS.labels(partition.topic, partition.number).set(1)
                log.error(
                    "consumer.partition_stopped",
                    partition=str(partition),
                    reason=reason,
                    hint="see `consuma topics show` and the alarms in docs/operating.md",
                )

    def clear_alarms(self) -> None:
        """Forget the alarms: a new assignment tries every partition again."""
        for partition in self.alarmed:
            metrics.ALARMS.labels(partition.topic, partition.number).set(0)
        self.alarmed = frozenset()
