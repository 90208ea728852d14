"""Taking partitions over and giving them up, in the background: the group must not wait for either."""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterable

import structlog

from shared.kafka import metrics
from shared.kafka.backoff import backoff_s
from shared.kafka.commit_metadata import CommitMetadata, decode_metadata
from shared.kafka.ending import own_cancellations_only
from shared.kafka.group_client import GroupClient
from shared.kafka.handler import PartitionHandler
from shared.kafka.offset_tracker import OffsetTracker
from shared.kafka.partition import PartitionProcessor, cancel_all
from shared.kafka.quarantine import Quarantine
from shared.kafka.records import Partition

__all__ = ["Rebalancer"]

log = structlog.get_logger()

Opened = Callable[[PartitionProcessor], None]


class Rebalancer:
    """Opens partitions that have come, as soon as the work on those that went has ended.

    Args:
        client: knows the commits.
        handler: is told of both.
        quarantine: knows the blamed records, if the service has any.
        opened: called for each partition that is ready, and for one without a commit, which is not.
    """

    def __init__(
        self,
        client: GroupClient,
        handler: PartitionHandler,
        quarantine: Quarantine | None,
        opened: Opened,
    ) -> None:
        self._client = client
        self._handler = handler
        self._quarantine = quarantine
        self._opened = opened
        self._leaving: asyncio.Task[None] | None = None
        self._departing: list[PartitionProcessor] = []

    def open(self, processors: Iterable[PartitionProcessor], tasks: asyncio.TaskGroup) -> None:
        """Open `processors`, those of one partition number together."""
        by_number: dict[int, dict[Partition, PartitionProcessor]] = defaultdict(dict)
        for processor in processors:
            by_number[processor.partition.number][processor.partition] = processor
        for group in by_number.values():
            task = tasks.create_task(self._open(group, self._leaving))
            for processor in group.values():
                processor.opening = task

    def leave(self, processors: list[PartitionProcessor], tasks: asyncio.TaskGroup) -> None:
        """Cancel all work on `processors` at once; tell the handler when it has ended."""
        if processors:
            for processor in processors:
                processor.cancel()
            self._departing += processors
            leaving = self._leave_after(self._leaving)
            try:
                self._leaving = tasks.create_task(leaving)
            except RuntimeError:  # the member is ending: `leave_rest` is what follows
                leaving.close()

    async def leave_rest(self, processors: list[PartitionProcessor]) -> None:
        """End all work on `processors`, and on those that have not quite left, and tell the handler."""
        self._departing += processors
        await self._leave_after(None)

    async def _leave_after(self, former: asyncio.Task[None] | None) -> None:
        if former is not None:
            await former
        departing = list(self._departing)
        await cancel_all(departing)
        self._departing = [each for each in self._departing if each not in departing]
        for processor in departing:
            metrics.forget_partition(processor.partition)
        if departing:
            await self._handler.on_revoked(frozenset(each.partition for each in departing))

    async def _open(
        self, processors: dict[Partition, PartitionProcessor], leaving: asyncio.Task[None] | None
    ) -> None:
        """Learn how far the former owner came and let the handler prepare, until both have worked."""
        if leaving is not None:
            await asyncio.wait([leaving])
        commits: dict[Partition, tuple[int, str]] = {}
        for wait_s in backoff_s():
            try:
                with own_cancellations_only():
                    commits = await self._client.committed(processors)
                    await self._handler.on_assigned(frozenset(processors))
                break
            except Exception as error:
                log.warning("consumer.open_retried", partitions=sorted(map(str, processors)), exc_info=error)
                await asyncio.sleep(wait_s)
        for partition, processor in processors.items():
            processor.opening = None
            if partition in commits:
                offset, text = commits[partition]
                self._start(processor, offset, decode_metadata(offset, text))
            self._opened(processor)

    def _start(self, processor: PartitionProcessor, offset: int, metadata: CommitMetadata) -> None:
        poison = None
        if self._quarantine is not None:
            poison = self._quarantine.tracker(processor.partition, metadata.attempts)
        processor.open(OffsetTracker(offset, metadata.done), poison)
