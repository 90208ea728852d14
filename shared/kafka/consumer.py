"""The partition consumer of every service: concurrent handling, commits that never pass unfinished work.

One task handles one record, within a window per partition. The group's offset is the lowest unfinished one;
the offsets finished beyond it are in the commit's metadata and are skipped by the next owner. A partition
whose window is full is paused until half of it is done. Membership is static, so a process that comes back
under its name takes its partitions again without a rebalance of the others.
"""

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Final

import structlog
from aiokafka.errors import KafkaError

from shared.kafka import metrics
from shared.kafka.backoff import backoff_s
from shared.kafka.ending import own_cancellations_only
from shared.kafka.handler import PartitionHandler, ReleaseRecord
from shared.kafka.member import Member, MemberSpec
from shared.kafka.quarantine import OnPoison, Quarantine
from shared.kafka.records import Partition
from shared.kafka.topics import Topic, topic_name
from shared.settings import ServiceSettings

__all__ = ["PartitionConsumer", "PartitionHandler", "Quarantine", "ReleaseRecord"]

log = structlog.get_logger()

STEADY_S: Final = 30.0
"""A life that lasted so long starts the back-off of rebuilding anew."""


class PartitionConsumer:
    """A member of the consumer group `<prefix><group>`.

    Args:
        settings: addresses, the instance (its static identity), limits of time and bytes.
        group: name of the group without the prefix.
        topics: the topics to read.
        handler: the service's work on them.
        window: records of one partition in work at a time, for all topics or by topic.
        window_bytes: bytes of one partition in work or waiting for it, beyond which no more are fetched.
        quarantine: finds and ends the records that kill the process; without it they are handled for ever.
        on_poison: for a quarantine: writes the outcome of a poison record, given the number of its runs.
        idle_topics: those of `topics` whose records can wait a second to be fetched, as they are due later.
    """

    def __init__(
        self,
        settings: ServiceSettings,
        *,
        group: str,
        topics: Sequence[Topic],
        handler: PartitionHandler,
        window: int | Mapping[Topic, int] = 256,
        window_bytes: int = 32 * 1024 * 1024,
        quarantine: Quarantine | None = None,
        on_poison: OnPoison | None = None,
        idle_topics: Collection[Topic] = (),
    ) -> None:
        self._settings = settings
        self._handler = handler
        self._spec = MemberSpec(
            group=f"{settings.topic_prefix}{group}",
            windows={
                topic_name(settings, topic): window if isinstance(window, int) else window[topic]
                for topic in topics
            },
            window_bytes=window_bytes,
            idle_topics=frozenset(topic_name(settings, topic) for topic in idle_topics),
            quarantine=quarantine,
            on_poison=on_poison,
        )
        self._member: Member | None = None
        self._stopping = asyncio.Event()
        self._ended = asyncio.Event()
        self._ended.set()

    @property
    def ready(self) -> bool:
        """Whether the group has told this member its partitions and all of them are being handled.

        Partitions that are `alarmed` do not count.
        """
        return self._member is not None and self._member.ready

    @property
    def assigned(self) -> frozenset[Partition]:
        """The partitions that the group has given to this member; none during a rebalance."""
        return self._member.assignment.assigned if self._member is not None else frozenset()

    @property
    def alarmed(self) -> frozenset[Partition]:
        """Partitions that stand still because they cannot be read on; a person has to decide."""
        return self._member.assignment.alarmed if self._member is not None else frozenset()

    def ownership_is_proven(self) -> bool:
        """Whether the broker has confirmed lately that this is a member: its partitions are nobody else's.

        Not so in a process that was stopped for long, or has lost the broker.
        """
        return self._member is not None and self._member.committer.is_proven()

    async def prove_ownership(self) -> None:
        """For a handler, before an effect that must not be repeated: return once `ownership_is_proven`.

        Costs nothing while it is. The handling of a record whose partition was lost is cancelled instead.
        """
        if self._member is not None:
            await self._member.committer.prove()

    async def run(self) -> None:
        """Consume until `stop`. A client that fails is replaced, the handler's faults are retried.

        Raises:
            ExceptionGroup: of errors that no retry mends, such as an exception of `on_revoked`.
        """
        wait = backoff_s()
        damaged: Counter[Partition] = Counter()
        self._ended.clear()
        try:
            while not self._stopping.is_set():
                began = time.monotonic()
                self._member = Member(self._settings, self._spec, self._handler, damaged)
                try:
                    with own_cancellations_only():
                        await self._member.run(self._stopping)
                except* (KafkaError, OSError) as errors:
                    reason = getattr(errors.exceptions[0], "reason", type(errors.exceptions[0]).__name__)
                    metrics.CLIENTS_REPLACED.labels("consumer", reason).inc()
                    log.warning("consumer.rebuilding", group=self._spec.group, errors=str(errors.exceptions))
                if time.monotonic() - began > STEADY_S:
                    wait = backoff_s()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(next(wait)):
                        await self._stopping.wait()
        finally:
            if self._spec.quarantine is not None:
                self._spec.quarantine.close()
            self._ended.set()

    async def stop(self) -> None:
        """Have `run` drain within the drain timeout, commit and return; waits for it."""
        self._stopping.set()
        await self._ended.wait()
