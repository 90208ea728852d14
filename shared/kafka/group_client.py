"""The client library's group consumer, typed and bounded: one life of it."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, Final

import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, OffsetAndMetadata, TopicPartition
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.errors import (
    CorruptRecordException,
    IllegalStateError,
    KafkaConnectionError,
    KafkaError,
)
from aiokafka.protocol.metadata import MetadataRequest

from shared.kafka.ending import end_bounded, own_cancellations_only, prepare_library
from shared.kafka.fetch_errors import LOST_OFFSET, partitions_of
from shared.kafka.library_tasks import dead_task_of, fetch
from shared.kafka.reader import to_record
from shared.kafka.records import Partition, Record
from shared.settings import ServiceSettings

__all__ = ["GroupClient", "TopicsMissingError", "UnreadablePartitionError"]

log = structlog.get_logger()

START_TIMEOUT_S: Final = 15.0
COMMIT_TIMEOUT_S: Final = 5.0
CLOSE_TIMEOUT_S: Final = 5.0
REBALANCE_TIMEOUT_MS: Final = 10_000
"""A rebalance waits so long for members that are dead but static; a living one rejoins within a second."""

REQUEST_TIMEOUT_MS: Final = REBALANCE_TIMEOUT_MS + 5_000
HEARTBEAT_MS: Final = 3_000
FETCH_WAIT_MS: Final = 50
"""A resumed partition waits for the fetch in flight to its broker: this long at most."""

PARTITION_FETCH_BYTES: Final = 256 * 1024
"""What a pause throws away at most; a larger batch is still fetched, whole."""

POLL_MS: Final = 200
POLL_RECORDS: Final = 500
"""Records decoded at a time: about 2 ms of the event loop."""

Assigned = Callable[[frozenset[Partition]], None]
Revoked = Callable[[], Awaitable[None]]


class TopicsMissingError(KafkaError):  # type: ignore[misc]  # the client library is untyped
    """The topics have not been created yet, or the group has no position in them."""


class UnreadablePartitionError(Exception):
    """Partitions whose position is not committed or has left the log, or whose bytes are damaged."""

    def __init__(self, partitions: Iterable[Partition], reason: str) -> None:
        super().__init__(reason)
        self.partitions = tuple(partitions)


class GroupClient:
    """A static member of `group`; `assigned` and `revoked` are called as the group decides.

    `damaged` counts the damaged batches of each partition since it last delivered.

    Every error of the broker is a `KafkaError`; after one that `poll` raises, the client is to be replaced.
    """

    def __init__(
        self,
        settings: ServiceSettings,
        *,
        group: str,
        topics: Iterable[str],
        assigned: Assigned,
        revoked: Revoked,
        damaged: Counter[Partition],
    ) -> None:
        self._topics = frozenset(topics)
        self._listener = _Listener(assigned, revoked)
        self._damaged = damaged
        prepare_library()
        self._client = AIOKafkaConsumer(
            bootstrap_servers=settings.kafka,
            client_id=settings.instance,
            group_id=group,
            group_instance_id=f"{settings.topic_prefix}{settings.instance}",
            enable_auto_commit=False,
            auto_offset_reset="none",
            isolation_level="read_committed",
            partition_assignment_strategy=(RangePartitionAssignor,),
            session_timeout_ms=settings.session_timeout_ms,
            heartbeat_interval_ms=min(HEARTBEAT_MS, settings.session_timeout_ms // 3),
            rebalance_timeout_ms=REBALANCE_TIMEOUT_MS,
            request_timeout_ms=REQUEST_TIMEOUT_MS,
            fetch_max_wait_ms=FETCH_WAIT_MS,
            max_partition_fetch_bytes=PARTITION_FETCH_BYTES,
        )

    @property
    def generation(self) -> int:
        """The group's count of assignments; each completed rebalance adds one."""
        return int(self._client._coordinator.generation)

    async def start(self) -> None:
        """Connect; `subscribe` is to follow.

        Raises:
            TopicsMissingError: a topic does not exist, or the group has no position in any: a member would
                idle, and its presence keep `consuma topics apply` from committing the start.
            KafkaError: no broker answered.
        """
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                await self._client.start()
                missing = await self._not_applied()
        except TimeoutError as error:
            raise KafkaConnectionError("no broker answered in time") from error
        if missing:
            raise TopicsMissingError(f"not applied: {', '.join(sorted(missing))}; run `consuma topics apply`")

    def subscribe(self) -> None:
        """Join the group."""
        self._client.subscribe(list(self._topics), listener=self._listener)

    async def cluster_id(self) -> str:
        """The id of the broker's cluster, which a cluster made anew does not share; empty where it has none.

        Raises:
            KafkaError, TimeoutError: the broker did not answer.
        """
        client = self._client._client
        async with asyncio.timeout(COMMIT_TIMEOUT_S):
            answer = await client.send(client.get_random_node(), MetadataRequest([]))
        return str(getattr(answer, "cluster_id", None) or "")

    def dead_task(self) -> str | None:
        """The name of a task of the library that has ended although the client works; None when none has."""
        return dead_task_of(self._client)

    async def _not_applied(self) -> frozenset[str]:
        """Topics that do not exist; all of them as long as the group has no position at all."""
        cluster = await self._client._client.fetch_all_metadata()
        missing = self._topics - cluster.topics()
        partitions = [
            Partition(topic, number)
            for topic in self._topics - missing
            for number in cluster.partitions_for_topic(topic) or ()
        ]
        return missing or (frozenset() if await self.committed(partitions) else self._topics)

    async def poll(self) -> dict[Partition, list[Record]]:
        """The next records, at most `POLL_RECORDS`, or none after `POLL_MS`; waits out a rebalance.

        Raises:
            UnreadablePartitionError: partitions that cannot be read on; `park` them, or it comes again.
            DeadTaskError: nothing will come any more.
            CorruptRecordException: a batch is damaged. The client is to be replaced: with it the library has
                dropped records of other partitions, and counts them as read.
        """
        try:
            batches = await fetch(self._client, timeout_ms=POLL_MS, max_records=POLL_RECORDS)
        except LOST_OFFSET as error:
            reason = "its offset was never committed, or has left the log"
            raise UnreadablePartitionError(partitions_of(error), f"{reason}: {error!r}") from error
        except CorruptRecordException as error:
            self._count_damage(error)
            raise
        for source in batches if self._damaged else ():
            self._damaged.pop(Partition(*source), None)
        return {
            Partition(*source): [to_record(raw) for raw in fetched] for source, fetched in batches.items()
        }

    def _count_damage(self, error: CorruptRecordException) -> None:
        assigned = self._client.assignment()
        damaged = next((Partition(*each) for each in assigned if str(error).endswith(str(each))), None)
        if damaged is not None:
            self._damaged[damaged] += 1

    def position(self, partition: Partition) -> int:
        """The offset to be fetched next, past what was only transaction markers; 0 while it is not known.

        Reads the client's state: its own method may wait for as long as a request.
        """
        state = self._state(partition)
        return state.position if state and state.has_valid_position else 0

    def answered_s(self, partition: Partition) -> float:
        """When the broker last answered a fetch of `partition`, in seconds since the epoch; 0 for never."""
        state = self._state(partition)
        return (state.timestamp or 0) / 1000 if state else 0.0

    def _state(self, partition: Partition) -> Any:  # noqa: ANN401 - the client library is untyped
        assignment = self._client._subscription.subscription.assignment
        return assignment and assignment.state_value(TopicPartition(*partition))

    def pause(self, partition: Partition) -> None:
        """Fetch no more of `partition`, until it is resumed or assigned anew."""
        with contextlib.suppress(IllegalStateError):  # no longer assigned: nothing to pause
            self._client.pause(TopicPartition(*partition))

    def resume(self, partition: Partition) -> None:
        """Fetch `partition` again."""
        with contextlib.suppress(IllegalStateError):
            self._client.resume(TopicPartition(*partition))

    def park(self, partition: Partition) -> None:
        """Pause a partition that has lost its position; given one, it is no longer complained about."""
        self.pause(partition)
        with contextlib.suppress(IllegalStateError):
            self._client.seek(TopicPartition(*partition), 0)

    async def committed(self, partitions: Iterable[Partition]) -> dict[Partition, tuple[int, str]]:
        """Offset and metadata that the group has committed for each of `partitions`, where it has.

        Asks the coordinator over the connection that is there: the client's own method drops the metadata.

        Raises:
            KafkaError, TimeoutError: the coordinator did not answer.
        """
        wanted = [TopicPartition(*each) for each in partitions]
        asked = self._client._coordinator.fetch_committed_offsets(wanted)
        async with asyncio.timeout(COMMIT_TIMEOUT_S):
            found = await asked
        return {Partition(*source): (value.offset, value.metadata or "") for source, value in found.items()}

    async def ends(self, partitions: Iterable[Partition]) -> dict[Partition, int]:
        """Where `partitions` end now, up to `FETCH_WAIT_MS` late: the question waits behind the fetch.

        Raises:
            KafkaError: the broker did not answer.
        """
        with own_cancellations_only():
            found = await self._client.end_offsets([TopicPartition(*each) for each in partitions])
        return {Partition(*source): offset for source, offset in found.items()}

    async def commit(self, offsets: Mapping[Partition, tuple[int, str]]) -> None:
        """Commit offset and metadata of each partition.

        Raises:
            KafkaError, TimeoutError: it failed, or its outcome is unknown.
        """
        values = {TopicPartition(*each): OffsetAndMetadata(*value) for each, value in offsets.items()}
        with own_cancellations_only():
            async with asyncio.timeout(COMMIT_TIMEOUT_S):  # `wait_for` may lose a cancellation
                await self._client.commit(values)

    async def stop(self) -> None:
        """Disconnect, keeping the membership for a process that comes back under this name."""
        problem = await end_bounded(self._client.stop(), CLOSE_TIMEOUT_S)
        if problem is not None:
            log.warning("consumer.close_failed", error=repr(problem))
            await self._kill()

    async def _kill(self) -> None:
        """End what the library would go on doing: heartbeats of a member that is gone fence its successor."""
        coordinator, fetcher = self._client._coordinator, self._client._fetcher
        tasks: list[asyncio.Task[object] | None] = []
        if coordinator is not None:
            tasks += [coordinator._coordination_task, coordinator._heartbeat_task]
            tasks += [coordinator._commit_refresh_task]
        if fetcher is not None:
            tasks += [fetcher._fetch_task, *fetcher._pending_tasks]
        running = [task for task in tasks if task is not None and not task.done()]
        for task in running:
            task.cancel()
        if running:
            await asyncio.wait(running, timeout=CLOSE_TIMEOUT_S)
        await end_bounded(self._client._client.close(), CLOSE_TIMEOUT_S)


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc]  # the client library is untyped
    """The client logs and swallows a listener's errors; these callbacks raise none on purpose."""

    def __init__(self, assigned: Assigned, revoked: Revoked) -> None:
        self._assigned = assigned
        self._revoked = revoked

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        await self._revoked()

    def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        self._assigned(frozenset(Partition(*each) for each in assigned))
