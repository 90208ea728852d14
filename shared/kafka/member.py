"""One life of a group member: from joining until it is stopped or its client has to be replaced.

A rebalance revokes everything first (the client library knows no other protocol). Work in flight goes on
meanwhile: if the partition comes back, and no other member can have had it, its work is adopted; otherwise it
is cancelled.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Final

import structlog
from aiokafka.errors import KafkaError

from shared.kafka import metrics
from shared.kafka.assignment import Assignment
from shared.kafka.committer import Committer
from shared.kafka.ending import own_cancellations_only
from shared.kafka.group_client import GroupClient, UnreadablePartitionError
from shared.kafka.handler import PartitionHandler, handle_until_success
from shared.kafka.lag import watch_lag
from shared.kafka.library_tasks import DeadTaskError
from shared.kafka.partition import PartitionProcessor, cancel_all, drain_all
from shared.kafka.quarantine import OnPoison, Quarantine
from shared.kafka.rebalance import Rebalancer
from shared.kafka.records import Partition, Record
from shared.settings import ServiceSettings

__all__ = ["Member", "MemberSpec"]

log = structlog.get_logger()

REVOKE_DRAIN_S: Final = 0.25
"""A rebalance waits so long for work in flight: short, since the work goes on and other members wait."""

SILENT_SESSIONS: Final = 3
"""Session timeouts without a sign of the coordinator after which the client is replaced."""

WATCH_S: Final = 1.0
DAMAGE_LIMIT: Final = 3
"""Damaged batches in a row before a partition is given up."""


class MemberStuckError(KafkaError):  # type: ignore[misc]  # the client library is untyped
    """The coordinator is silent."""

    reason = "silence"


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberSpec:
    """What a member reads, by full names, and how much of it at a time."""

    group: str
    windows: Mapping[str, int]
    window_bytes: int
    idle_topics: frozenset[str] = frozenset()
    quarantine: Quarantine | None = None
    on_poison: OnPoison | None = None


class Member:
    """Runs the partitions that the group gives to it.

    Args:
        settings: as for the consumer.
        spec: topics and limits.
        handler: the service's work.
        damaged: damaged batches by partition, kept over the lives of members: the damage may lie on the way,
            so that a partition is given up only after some.
    """

    def __init__(
        self,
        settings: ServiceSettings,
        spec: MemberSpec,
        handler: PartitionHandler,
        damaged: Counter[Partition],
    ) -> None:
        self._settings = settings
        self._spec = spec
        self._handler = handler
        self._damaged = damaged
        self._joined = False
        self._generation = -1
        self._changed_at = time.monotonic()
        self._stopping = asyncio.Event()
        self._tasks = asyncio.TaskGroup()
        self._loops: list[asyncio.Task[None]] = []
        self._client = GroupClient(
            settings,
            group=spec.group,
            topics=spec.windows,
            assigned=self._on_assigned,
            revoked=self._on_revoked,
            damaged=damaged,
        )
        self.assignment = Assignment(
            self._client,
            idle_topics=spec.idle_topics,
            windows=spec.windows,
            window_bytes=spec.window_bytes,
            budget_bytes=settings.records_bytes,
        )
        self._rebalancer = Rebalancer(self._client, handler, spec.quarantine, self._on_opened)
        self.committer = Committer(
            self._client.commit, self.assignment.current, session_s=settings.session_timeout_ms / 1000
        )

    @property
    def ready(self) -> bool:
        """Whether the group has given this member its partitions and all of them are being handled."""
        return self._joined and self.assignment.handled

    async def run(self, stopping: asyncio.Event) -> None:
        """Join, and work until `stopping` is set; then drain and commit.

        Raises:
            ExceptionGroup: of what ended it; after KafkaError and OSError another life may follow.
        """
        self._stopping = stopping
        try:
            async with self._tasks:
                work = self._tasks.create_task(self._work())
                await stopping.wait()
                work.cancel()
                processors = self.assignment.processors.values()
                await drain_all(processors, self._settings.drain_timeout_ms / 1000)
                for task in [*self._loops, *(each.opening for each in processors if each.opening)]:
                    task.cancel()
        finally:
            await self._close()

    async def _close(self) -> None:
        processors = list(self.assignment.processors.values())
        await cancel_all(processors)
        await self.committer.commit(self.assignment.current(), clean=True, unchanged=True)
        self.assignment.assigned, self.assignment.processors = frozenset(), {}
        self._joined = False
        await self._client.stop()
        await self._rebalancer.leave_rest(processors)

    async def _work(self) -> None:
        with own_cancellations_only():
            await self._client.start()
            if self._spec.quarantine is not None:
                await self._open_quarantine(self._spec.quarantine)
            self._client.subscribe()
        loops = [self.committer.run(), self._watch(), self.assignment.idle.run()]
        loops.append(watch_lag(self._client, self.assignment.current))
        self._loops = [self._tasks.create_task(each) for each in loops]
        while True:
            try:
                batches = await self._client.poll()
            except UnreadablePartitionError as error:
                self.assignment.alarm(error.partitions, str(error))
            else:
                self.assignment.accept(batches)

    async def _open_quarantine(self, quarantine: Quarantine) -> None:
        """Learn which records the last life held, and forget those that have ended since, wherever that was.

        Before the group gives out partitions: from then on their trackers drop entries.
        """
        cluster = await self._client.cluster_id()
        quarantine.open(self._settings.instance, self._spec.group, cluster)
        if partitions := quarantine.recovered():
            commits = await self._client.committed(partitions)
            quarantine.prune({partition: offset for partition, (offset, _) in commits.items()})

    async def _watch(self) -> None:
        """Give the client up when the coordinator is silent, or when a task of the library has ended.

        The library may lose its coordinator without noticing, and a poll wait for ever for a rebalance that
        nobody carries out any more.
        """
        limit_s = SILENT_SESSIONS * self._settings.session_timeout_ms / 1000
        while True:
            await asyncio.sleep(WATCH_S)
            if (dead := self._client.dead_task()) is not None:
                raise DeadTaskError(dead)
            waiting_s = 0.0 if self._joined else time.monotonic() - self._changed_at
            is_open = any(each.ready for each in self.assignment.current())
            if max(waiting_s, self.committer.silence_s if is_open else 0.0) > limit_s:
                raise MemberStuckError(f"no sign of the coordinator for {limit_s:.0f} s")

    # The group's decisions. The client calls these between its requests: they must not block.

    async def _on_revoked(self) -> None:
        """Let short work end and commit, then give the partitions up; longer work goes on for now."""
        leaving = self.assignment.current()
        self.assignment.assigned = frozenset()
        self._joined = False
        self._changed_at = time.monotonic()
        await drain_all(leaving, REVOKE_DRAIN_S)
        await self.committer.commit(leaving, clean=True, unchanged=True)

    def _on_assigned(self, assigned: frozenset[Partition]) -> None:
        """Adopt the partitions that were here before, end the work on those that went, open the new ones."""
        unbroken = 0 <= self._client.generation - self._generation <= 1
        self._generation = self._client.generation
        self._joined = True
        self._changed_at = time.monotonic()
        self.committer.reset()
        metrics.REBALANCES.inc()
        former = self.assignment.processors
        kept = {each for each in assigned if unbroken and each in former and former[each].ready}
        if self._stopping.is_set():
            self.assignment.assigned = frozenset(kept)
            return
        self.assignment.clear_alarms()
        log.info(
            "consumer.assigned",
            group=self._spec.group,
            generation=self._generation,
            partitions=sorted(map(str, assigned)),
            adopted=len(kept),
        )
        self._rebalancer.leave(self.assignment.replace(assigned, kept, self), self._tasks)
        damaged = [each for each in assigned if self._damaged[each] >= DAMAGE_LIMIT]
        self.assignment.alarm(damaged, "its bytes in the log are damaged")
        self._rebalancer.open([self.assignment.processors[each] for each in assigned - kept], self._tasks)
        self.committer.request()

    def _on_opened(self, processor: PartitionProcessor) -> None:
        if not processor.ready:
            self.assignment.alarm([processor.partition], "no offset is committed for it")
            return
        self.assignment.steer(processor)
        self.committer.request()

    # A partition's requests of its member.

    async def handle(self, record: Record) -> None:
        """Handle `record` until that has succeeded."""
        await handle_until_success(self._handler.handle, record, may_release=self._stopping.is_set)

    async def quarantine(self, processor: PartitionProcessor, record: Record) -> None:
        """Handle a record that a death is blamed on, until that has succeeded."""
        quarantine, on_poison, tracker = self._spec.quarantine, self._spec.on_poison, processor.poison
        if quarantine is None or on_poison is None or tracker is None:
            raise AssertionError("a record is blamed where no quarantine is")
        commit = partial(self.committer.commit_including, processor)

        async def run(each: Record) -> None:
            await quarantine.run(
                each, tracker, handle=self._handler.handle, on_poison=on_poison, commit=commit
            )

        await handle_until_success(run, record, may_release=self._stopping.is_set)

    def on_room(self, processor: PartitionProcessor) -> None:
        """A full window has become half empty."""
        self.assignment.steer(processor)

    def on_bug(self, error: BaseException) -> None:
        """An error of this package itself: end the service rather than never finish an offset."""
        if not self._stopping.is_set():
            self._loops.append(self._tasks.create_task(_fail(error)))


async def _fail(error: BaseException) -> None:
    raise error
