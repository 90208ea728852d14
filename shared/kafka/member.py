"""One life of a group member: from joining until it is stopped or its client has to be replaced.

A rebalance revokes everything first (the client knows no other protocol). Work in flight goes on meanwhile:
if the partition comes back, and nobody else can have had it, it is adopted; otherwise it is cancelled.
"""

import asyncio
import time
from collections.abc import Iterable
from typing import Final

import structlog
from aiokafka.errors import KafkaError

from shared.kafka import metrics
from shared.kafka.committer import Committer
from shared.kafka.dozing import Dozing
from shared.kafka.group_client import GroupClient, LostOffsetError
from shared.kafka.handler import MemberSpec, PartitionHandler
from shared.kafka.lag import watch_lag
from shared.kafka.ownership import Ownership
from shared.kafka.partition_run import CommitPoint, PartitionRun, drain, end_work
from shared.kafka.recall import Recalled
from shared.kafka.records import Partition, Record
from shared.kafka.retrying import until_done
from shared.kafka.solo import SoloRunner
from shared.kafka.suspicion import Probation
from shared.settings import ServiceSettings

__all__ = ["Member"]

log = structlog.get_logger()

REVOKE_DRAIN_S: Final = 0.25
"""What a rebalance waits for work in flight: short, since the work goes on and others wait meanwhile."""
SILENT_SESSIONS: Final = 3
"""Session timeouts without a sign of the coordinator after which the client is replaced."""

WATCH_S: Final = 1.0


class MemberStuckError(KafkaError):  # type: ignore[misc]  # the client library is untyped
    """The coordinator has not been heard of for long."""


class Member:
    """Runs the partitions that the group gives to it; `own_commits` is as for `Ownership`."""

    def __init__(
        self,
        settings: ServiceSettings,
        spec: MemberSpec,
        handler: PartitionHandler,
        own_commits: dict[Partition, CommitPoint],
    ) -> None:
        self._settings = settings
        self._spec = spec
        self._handler = handler
        self._runs: dict[Partition, PartitionRun] = {}
        self._alarmed: set[Partition] = set()
        self._joined = False
        self._generation = -1
        self._changed_at = time.monotonic()
        self._stopping = False
        self._asked_to_stop = asyncio.Event()
        self._tasks = asyncio.TaskGroup()
        self._loops: list[asyncio.Task[None]] = []
        self._client = GroupClient(
            settings,
            group=spec.group,
            topics=spec.windows,
            assigned=self.on_assigned,
            revoked=self.on_revoked,
        )
        self._ownership = Ownership(
            self._client, handler, spec, opened=self._on_opened, own_commits=own_commits
        )
        self._committer = Committer(
            self._client.commit, self.current_runs, session_s=settings.session_timeout_ms / 1000
        )
        self._dozing = Dozing(spec.dozing, self.current_runs, self._steer, self._client.answered_s)
        self._solo = self._new_solo(spec.probation) if spec.probation is not None else None
        self.assigned: frozenset[Partition] = frozenset()

    def _new_solo(self, probation: Probation) -> SoloRunner:
        commit = self._committer.commit_until_done
        return SoloRunner(probation, runs=self.current_runs, handle=self.handle, commit=commit)

    @property
    def ready(self) -> bool:
        """Whether the group has given this member its partitions and all of them are being handled."""
        handled = self.assigned - self._alarmed
        return self._joined and all(each in self._runs and self._runs[each].ready for each in handled)

    @property
    def alarmed(self) -> frozenset[Partition]:
        """Partitions that stand still because their offset is lost."""
        return frozenset(self._alarmed)

    def current_runs(self) -> list[PartitionRun]:
        """The partitions that may be committed now."""
        return [run for each in self.assigned if (run := self._runs.get(each)) is not None]

    def ownership_is_proven(self) -> bool:
        """Whether the broker has confirmed, well within the session timeout, that this is a member."""
        return self._committer.is_proven()

    async def prove_ownership(self) -> None:
        """Return once `ownership_is_proven`."""
        await self._committer.prove()

    async def run(self, stopping: asyncio.Event) -> None:
        """Join, and work until `stopping` is set; then drain and commit.

        Raises:
            ExceptionGroup: of what ended it; after KafkaError and OSError another life may follow.
        """
        self._asked_to_stop = stopping
        self._stop_wanted = stopping
        try:
            async with self._tasks:
                work = self._tasks.create_task(self._work())
                await stopping.wait()
                self._stopping = True
                work.cancel()
                await drain(self._runs.values(), self._settings.drain_timeout_ms / 1000)
                for task in [*self._loops, *(run.opening for run in self._runs.values() if run.opening)]:
                    task.cancel()
        finally:
            await self._close()

    async def _close(self) -> None:
        self._stopping = True
        runs = list(self._runs.values())
        await end_work(runs)
        await self._committer.commit(self.current_runs(), clean=True, unchanged=True)
        self._runs = {}
        self.assigned = frozenset()
        self._joined = False
        await self._client.stop()
        await self._ownership.leave_for_good(runs)

    async def _work(self) -> None:
        await self._client.start()
        lag = watch_lag(self._client, self.current_runs)
        loops = [self._committer.run(), self._watch(), lag, self._dozing.run()]
        if self._solo is not None:
            loops.append(self._solo.run())
        self._loops = [self._tasks.create_task(each) for each in loops]
        await self._poll()

    async def _poll(self) -> None:
        while True:
            try:
                batches = await self._client.poll()
            except LostOffsetError as error:
                self._alarm(error.partitions, str(error))
                continue
            for partition, records in batches.items():
                run = self._runs.get(partition)
                if run is not None and partition in self.assigned:
                    run.accept(records)
                    self._dozing.rouse(partition)
                    self._steer(run)
            if not batches:
                for run in self.current_runs():
                    run.advance(self._client.position(run.partition))

    def _steer(self, run: PartitionRun) -> None:
        """Pause a partition that dozes or whose window is full, until that is half empty; resume others."""
        if run.partition not in self.assigned or run.partition in self._alarmed:
            return
        if run.full and not run.blocked:
            run.blocked = True
            metrics.PAUSES.labels(run.partition.topic).inc()
        elif run.blocked and run.has_room:
            run.blocked = False
            self._dozing.rouse(run.partition)
        pause = run.blocked or self._dozing.asleep(run.partition)
        if pause != run.paused:
            run.paused = pause
            (self._client.pause if pause else self._client.resume)(run.partition)

    def _alarm(self, partitions: Iterable[Partition], reason: str) -> None:
        """Stop the partitions whose offset is lost, loudly: skipping would lose requests in silence."""
        for partition in partitions:
            self._client.park(partition)
            if partition in self._alarmed:
                continue
            self._alarmed.add(partition)
            metrics.ALARMS.labels(partition.topic, partition.number).set(1)
            log.error(
                "consumer.offset_lost",
                group=self._spec.group,
                partition=str(partition),
                reason=reason,
                hint="its position was never committed, or has left the log: see `consuma topics show`",
            )

    # What the group decides. The client calls these between its requests: they must not block.

    async def on_revoked(self) -> None:
        """Let short work end and commit, then leave the partitions; longer work goes on for now."""
        leaving = self.current_runs()
        self.assigned = frozenset()
        self._joined = False
        self._changed_at = time.monotonic()
        await drain(leaving, REVOKE_DRAIN_S)
        await self._committer.commit(leaving, clean=True, unchanged=True)

    def on_assigned(self, assigned: frozenset[Partition]) -> None:
        """Adopt what was ours before, end what is not any more, open what is new."""
        unbroken = 0 <= self._client.generation - self._generation <= 1
        self._generation = self._client.generation
        self.assigned, self._joined = assigned, True
        self._changed_at = time.monotonic()
        self._committer.reset()
        kept = {each for each in assigned if unbroken and each in self._runs and self._runs[each].ready}
        metrics.REBALANCES.inc()
        if self._stopping:
            self.assigned = frozenset(kept)
            return
        self._clear_alarms()
        log.info(
            "consumer.assigned",
            group=self._spec.group,
            generation=self._generation,
            partitions=sorted(map(str, assigned)),
            adopted=len(kept),
        )
        lost = [run for each, run in self._runs.items() if each not in kept]
        adopted = [self._runs[each] for each in kept]
        self._runs = {each: self._runs[each] if each in kept else self._new_run(each) for each in assigned}
        self._ownership.leave(lost, self._tasks)
        for run in adopted:
            run.release()
            self._steer(run)
        self._ownership.take([self._runs[each] for each in assigned - kept], self._tasks)
        self._committer.request()

    def _clear_alarms(self) -> None:
        for partition in self._alarmed:
            metrics.ALARMS.labels(partition.topic, partition.number).set(0)
        self._alarmed.clear()

    def _new_run(self, partition: Partition) -> PartitionRun:
        window = self._spec.windows[partition.topic]
        return PartitionRun(partition, self, window=window, window_bytes=self._spec.window_bytes)

    def _on_opened(self, run: PartitionRun, recalled: Recalled | None) -> None:
        if recalled is None:
            self._alarm([run.partition], "no offset is committed")
            return
        run.open(*recalled)
        self._steer(run)
        self._committer.request()

    async def _watch(self) -> None:
        """Give the client up when the coordinator is silent: it may have lost it without noticing."""
        limit_s = SILENT_SESSIONS * self._settings.session_timeout_ms / 1000
        while True:
            await asyncio.sleep(WATCH_S)
            waiting_s = 0.0 if self._joined else time.monotonic() - self._changed_at
            silence_s = self._committer.silence_s if any(run.ready for run in self.current_runs()) else 0.0
            if max(waiting_s, silence_s) > limit_s:
                raise MemberStuckError(f"no sign of the coordinator for {limit_s:.0f} s")

    # What a partition's run asks for.

    async def handle(self, record: Record) -> None:
        """Handle `record` until that has succeeded."""
        await until_done(self._handler.handle, record, may_leave=self._asked_to_stop.is_set)

    def on_room(self, run: PartitionRun) -> None:
        """A full window has become half empty."""
        self._steer(run)

    def on_exhausted(self) -> None:
        """Records wait for a commit that lets them start."""
        self._committer.request()

    def on_suspect(self) -> None:
        """A record waits to be run alone."""
        if self._solo is not None:
            self._solo.want()

    def may_start(self) -> bool:
        """Whether nothing runs alone just now."""
        return self._solo is None or not self._solo.busy

    def on_bug(self, error: BaseException) -> None:
        """An error of this package itself: end the service rather than never finish an offset."""
        if not self._stopping:
            self._tasks.create_task(_fail(error))


async def _fail(error: BaseException) -> None:
    raise error
