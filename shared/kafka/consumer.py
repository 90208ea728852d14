"""The partition consumer of every service: concurrent handling, commits that never pass unfinished work.

One task handles one record, within a window per partition. The group's offset is the lowest unfinished one;
what finished beyond it is in the commit's metadata and is skipped by the next owner. A partition whose window
is full is paused until half of it is done. Membership is static, so a process that comes back under its name
takes its partitions again without a rebalance of the others.

A rebalance revokes everything first (the client knows no other protocol). Work in flight goes on meanwhile:
if the partition comes back it is adopted, otherwise it is cancelled.
"""

import asyncio
import contextlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, Protocol

import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, OffsetAndMetadata, TopicPartition
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.errors import IllegalStateError, KafkaError, NoOffsetForPartitionError, OffsetOutOfRangeError

from shared.kafka import metrics
from shared.kafka.backoff import backoff_s
from shared.kafka.offset_tracker import OffsetTracker, decode_done
from shared.kafka.partition_run import PartitionRun, RecordHandler
from shared.kafka.positions import committed_offsets
from shared.kafka.reader import to_record
from shared.kafka.records import Partition
from shared.kafka.topics import Topic, topic_name
from shared.settings import ServiceSettings

__all__ = ["PartitionConsumer", "PartitionHandler"]

log = structlog.get_logger()

POLL_MS: Final = 200
FETCH_WAIT_MS: Final = 50
"""A resumed partition waits for the fetch in flight to its broker: this long at most."""

FETCH_RECORDS: Final = 500
COMMIT_INTERVAL_S: Final = 0.2
COMMIT_TIMEOUT_S: Final = 5.0
REVOKE_DRAIN_S: Final = 0.5
"""What a rebalance waits for work in flight: short, since the work goes on and others wait meanwhile."""

CLOSE_TIMEOUT_S: Final = 5.0


class PartitionHandler(RecordHandler, Protocol):
    """What a service does with its partitions."""

    async def on_assigned(self, partitions: frozenset[Partition]) -> None:
        """Prepare for `partitions`; none of their records is handled before this has returned."""

    async def on_revoked(self, partitions: frozenset[Partition]) -> None:
        """Forget `partitions`: another process owns them."""


class PartitionConsumer:
    """A member of the consumer group `<prefix><group>`.

    Args:
        settings: addresses, the instance (its static identity), time limits.
        group: name of the group without the prefix.
        topics: what to read.
        handler: what to do with it.
        window: records of one partition in work at a time, for all topics or by topic.
        window_bytes: bytes of one partition in work at a time.
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
    ) -> None:
        self._settings = settings
        self._group = f"{settings.topic_prefix}{group}"
        self._windows = {
            topic_name(settings, topic): window if isinstance(window, int) else window[topic]
            for topic in topics
        }
        self._window_bytes = window_bytes
        self._handler = handler
        self._runs: dict[Partition, PartitionRun] = {}
        self._assigned: frozenset[Partition] = frozenset()
        self._joined = False
        self._alarmed: set[Partition] = set()
        self._stopping = asyncio.Event()
        self._ended = asyncio.Event()
        self._ended.set()
        self._opening: set[asyncio.Task[None]] = set()
        self._client: AIOKafkaConsumer = None

    @property
    def ready(self) -> bool:
        """Whether the group has told this member its partitions and all of them are being handled."""
        handled = self._assigned - self._alarmed
        return self._joined and all(each in self._runs and self._runs[each].ready for each in handled)

    @property
    def alarmed(self) -> frozenset[Partition]:
        """Partitions that stand still because their offset is lost; a person has to decide."""
        return frozenset(self._alarmed)

    def owns(self, partition: Partition) -> bool:
        """Whether this process is the partition's owner, as far as it knows."""
        return partition in self._assigned

    async def run(self) -> None:
        """Consume until `stop`. A client that fails is replaced; the handler's faults are retried."""
        wait = backoff_s()
        self._ended.clear()
        try:
            while not self._stopping.is_set():
                try:
                    await self._consume()
                    wait = backoff_s()
                except (KafkaError, OSError) as error:
                    metrics.CONSUMER_REBUILDS.inc()
                    log.warning("consumer.rebuilding", group=self._group, error=repr(error))
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(self._stopping.wait(), next(wait))
        finally:
            self._ended.set()

    async def stop(self) -> None:
        """Have `run` drain within the drain timeout, commit and return; waits for it."""
        self._stopping.set()
        await self._ended.wait()

    async def _consume(self) -> None:
        self._client = client = self._new_client()
        committer: asyncio.Task[None] | None = None
        try:
            await client.start()
            client.subscribe(list(self._windows), listener=_Listener(self))
            committer = asyncio.create_task(self._commit_periodically(), name="committer")
            while not self._stopping.is_set():
                await self._poll(client)
                if committer.done():
                    committer.result()
            await self._drain(self._settings.drain_timeout_ms / 1000)
        finally:
            await self._close(client, committer)

    async def _close(self, client: AIOKafkaConsumer, committer: asyncio.Task[None] | None) -> None:
        tasks = [*self._opening, *([committer] if committer else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for run in self._runs.values():
            await run.cancel()
        await self._commit(self._assigned)
        self._runs.clear()
        self._joined = False
        self._assigned = frozenset()
        with contextlib.suppress(TimeoutError, KafkaError):
            await asyncio.wait_for(client.stop(), CLOSE_TIMEOUT_S)

    def _new_client(self) -> AIOKafkaConsumer:
        settings = self._settings
        return AIOKafkaConsumer(
            bootstrap_servers=settings.kafka,
            client_id=settings.instance,
            group_id=self._group,
            group_instance_id=f"{self._group}.{settings.instance}",
            enable_auto_commit=False,
            auto_offset_reset="none",
            isolation_level="read_committed",
            partition_assignment_strategy=(RangePartitionAssignor,),
            session_timeout_ms=settings.session_timeout_ms,
            heartbeat_interval_ms=min(3_000, settings.session_timeout_ms // 3),
            rebalance_timeout_ms=settings.session_timeout_ms,
            request_timeout_ms=max(10_000, settings.session_timeout_ms + 5_000),
            fetch_max_wait_ms=FETCH_WAIT_MS,
            max_poll_records=FETCH_RECORDS,
        )

    async def _poll(self, client: AIOKafkaConsumer) -> None:
        try:
            batches = await client.getmany(timeout_ms=POLL_MS, max_records=FETCH_RECORDS)
        except (NoOffsetForPartitionError, OffsetOutOfRangeError) as error:
            self._alarm(client, error)
            return
        for source, fetched in batches.items():
            partition = Partition(source.topic, source.partition)
            run = self._runs.get(partition)
            if run is None:
                continue  # its revocation overtook the fetch: the next owner starts from the commit
            run.accept([to_record(raw) for raw in fetched])
            self._steer(client, run)

    def _steer(self, client: AIOKafkaConsumer, run: PartitionRun) -> None:
        """Pause a partition whose window is full, resume one that is half empty."""
        source = TopicPartition(*run.partition)
        if run.partition not in self._assigned or run.partition in self._alarmed:
            return
        with contextlib.suppress(IllegalStateError):
            if run.full and not run.paused:
                client.pause(source)
                run.paused = True
            elif run.paused and run.has_room:
                client.resume(source)
                run.paused = False

    def _alarm(
        self, client: AIOKafkaConsumer, error: NoOffsetForPartitionError | OffsetOutOfRangeError
    ) -> None:
        """Stop the partitions whose offset is lost, loudly: skipping would lose requests in silence."""
        for source in _lost_partitions(error):
            partition = Partition(source.topic, source.partition)
            self._alarmed.add(partition)
            metrics.ALARMS.labels(partition.topic, partition.number).set(1)
            with contextlib.suppress(IllegalStateError):
                client.pause(source)
                client.seek(source, 0)  # without a position the client reports the loss at every poll
            log.error(
                "consumer.offset_lost",
                group=self._group,
                partition=str(partition),
                error=repr(error),
                hint="no position is committed or it has been deleted; see `consuma topics show`",
            )

    async def on_partitions_revoked(self) -> None:
        """Let short work end and commit, then leave the partitions; longer work goes on for now."""
        leaving = self._assigned
        await self._drain(REVOKE_DRAIN_S)
        await self._commit(leaving)
        self._assigned = frozenset()
        self._joined = False

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        """Adopt what was ours before, end what is not any more, open what is new."""
        self._assigned = frozenset(Partition(each.topic, each.partition) for each in assigned)
        self._joined = True
        self._alarmed.clear()
        lost = frozenset(self._runs) - self._assigned
        opened = self._assigned - frozenset(self._runs)
        for partition in opened:
            self._runs[partition] = self._new_run(partition)
        for partition in self._assigned - opened:
            self._runs[partition].paused = False
        log.info("consumer.assigned", group=self._group, partitions=sorted(map(str, self._assigned)))
        if lost:
            await self._abandon(lost)
        if opened:
            task = asyncio.create_task(self._open(opened), name="open-partitions")
            self._opening.add(task)
            task.add_done_callback(self._opening.discard)

    def _new_run(self, partition: Partition) -> PartitionRun:
        return PartitionRun(
            partition,
            self._handler,
            window=self._windows[partition.topic],
            window_bytes=self._window_bytes,
            on_room=lambda run: self._steer(self._client, run),
        )

    async def _abandon(self, lost: frozenset[Partition]) -> None:
        for partition in lost:
            await self._runs.pop(partition).cancel()
        await self._handler.on_revoked(lost)

    async def _open(self, partitions: frozenset[Partition]) -> None:
        """Learn what the former owner finished, let the handler prepare, then dispatch."""
        runs = {each: self._runs[each] for each in partitions}
        for wait_s in backoff_s():
            try:
                committed = await committed_offsets(self._settings, self._group, partitions)
                await self._handler.on_assigned(partitions)
                break
            except Exception as error:  # noqa: BLE001 - whatever it is, the partition must open
                log.warning(
                    "consumer.open_retried", partitions=sorted(map(str, partitions)), error=repr(error)
                )
                await asyncio.sleep(wait_s)
        for partition, (offset, metadata) in committed.items():
            run = runs[partition]
            run.open(OffsetTracker(offset, decode_done(offset, metadata)))
            self._steer(self._client, run)

    async def _drain(self, timeout_s: float) -> None:
        """Wait for work in flight to end, at most `timeout_s`."""
        work = [task for run in self._runs.values() for task in run.hold()]
        if work:
            await asyncio.wait(work, timeout=timeout_s)

    async def _commit_periodically(self) -> None:
        while True:
            await asyncio.sleep(COMMIT_INTERVAL_S)
            await self._commit(self._assigned)

    async def _commit(self, partitions: Iterable[Partition]) -> None:
        """Commit what has changed. A failure is counted; the next commit carries the same and more."""
        changed = [run for each in partitions if (run := self._runs.get(each)) and run.commit_due()]
        offsets = {TopicPartition(*run.partition): _to_commit(run) for run in changed}
        if not offsets:
            return
        try:
            await asyncio.wait_for(self._client.commit(offsets), COMMIT_TIMEOUT_S)
        except (KafkaError, TimeoutError) as error:
            metrics.COMMIT_FAILURES.inc()
            log.warning("consumer.commit_failed", group=self._group, error=repr(error))
            return
        metrics.COMMITS.inc()
        for run in changed:
            offset = offsets[TopicPartition(*run.partition)]
            run.committed = (offset.offset, offset.metadata)


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc]  # the client library is untyped
    """The client logs and swallows a listener's errors; these callbacks raise none on purpose."""

    def __init__(self, consumer: PartitionConsumer) -> None:
        self._consumer = consumer

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        await self._consumer.on_partitions_revoked()

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        await self._consumer.on_partitions_assigned(assigned)


def _to_commit(run: PartitionRun) -> OffsetAndMetadata:
    offset, metadata = run.commit_point()
    return OffsetAndMetadata(offset, metadata)


def _lost_partitions(error: NoOffsetForPartitionError | OffsetOutOfRangeError) -> list[TopicPartition]:
    """The client puts the partition, or a mapping from it, into the error's first argument."""
    argument = error.args[0]
    return list(argument) if isinstance(argument, dict) else [argument]
