"""Offsets on the broker: what groups have committed, where logs end."""

import asyncio
import time
from collections.abc import Iterable, Mapping
from typing import Final

import structlog
from aiokafka import AIOKafkaConsumer, OffsetAndMetadata, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from shared.kafka import metrics
from shared.kafka.backoff import backoff_s
from shared.kafka.ending import end_bounded, own_cancellations_only, start_whole
from shared.kafka.library_tasks import dead_task_of
from shared.kafka.metadata_pace import pace_metadata
from shared.kafka.records import Partition
from shared.settings import KafkaSettings

__all__ = ["EndOffsets", "committed_offsets", "fetch_committed"]

log = structlog.get_logger()

ADMIN_TIMEOUT_S: Final = 10.0
REQUEST_TIMEOUT_MS: Final = 5_000
CLOSE_TIMEOUT_S: Final = 2.0


async def committed_offsets(
    settings: KafkaSettings, group: str, partitions: Iterable[Partition]
) -> dict[Partition, tuple[int, str]]:
    """Offset and metadata that `group` has committed for each of `partitions`, where it has.

    Raises:
        KafkaError, TimeoutError: the broker did not answer.
    """
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.kafka)
    async with asyncio.timeout(ADMIN_TIMEOUT_S):
        try:
            await start_whole(admin.start())
            wanted = [TopicPartition(*each) for each in partitions]
            found = await fetch_committed(admin, group, wanted)
        finally:
            await admin.close()
    return {
        Partition(source.topic, source.partition): (value.offset, value.metadata or "")
        for source, value in found.items()
        if value.offset >= 0
    }


async def fetch_committed(
    admin: AIOKafkaAdminClient, group: str, wanted: list[TopicPartition]
) -> dict[TopicPartition, OffsetAndMetadata]:
    """What the coordinator of `group` says about each of `wanted`; -1 is none. Has no bound.

    The coordinator is away for a moment after the first use of a broker, and while it moves. While it loads
    what it knows it refuses the whole question, which the client library takes for an answer about nothing.
    """
    for wait_s in backoff_s(cap_s=1.0):
        try:
            found: dict[TopicPartition, OffsetAndMetadata] = await admin.list_consumer_group_offsets(
                group, partitions=wanted
            )
        except KafkaError as error:
            if not error.retriable:
                raise
            await asyncio.sleep(wait_s)
        else:
            if found.keys() >= set(wanted):
                return found
            await asyncio.sleep(wait_s)
    raise AssertionError("back-off is endless")


class EndOffsets:
    """Where logs end, for read-your-writes. An answer is never older than its question.

    Whoever asks while an answer is under way waits for the next one, which all of them share: what was
    acknowledged before the question lies before the answer, and the broker is asked one thing at a time.
    Counts what open transactions hold back from readers, since that has been acknowledged too.

    Uses a client without an assignment: on one that polls, the question waits behind the fetch.
    """

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self._client: AIOKafkaConsumer = None
        self._asking = asyncio.Lock()
        self._answers: dict[frozenset[str], tuple[float, Mapping[Partition, int]]] = {}

    async def start(self) -> None:
        """Connect.

        Raises:
            KafkaError: no broker answered.
        """
        pace_metadata()
        client = AIOKafkaConsumer(
            bootstrap_servers=self._settings.kafka,
            isolation_level="read_uncommitted",  # nothing is read with it
            request_timeout_ms=REQUEST_TIMEOUT_MS,
        )
        try:
            with own_cancellations_only():
                await client.start()
        except BaseException:
            await end_bounded(client.stop(), CLOSE_TIMEOUT_S)
            raise
        self._client = client

    async def stop(self) -> None:
        """Disconnect; nothing is to be asked afterwards."""
        client, self._client = self._client, None
        if client is not None:
            await end_bounded(client.stop(), CLOSE_TIMEOUT_S)

    async def of(self, topics: frozenset[str], timeout_s: float) -> Mapping[Partition, int]:
        """End offset of every partition of `topics`, which are keyed by request id.

        Raises:
            KafkaError, TimeoutError: the broker did not answer within `timeout_s`.
        """
        called_at = time.monotonic()
        async with asyncio.timeout(timeout_s), self._asking:
            asked_at, ends = self._answers.get(topics, (0.0, {}))
            if asked_at <= called_at:
                asked_at = time.monotonic()
                ends = await self._ask(topics)
                self._answers[topics] = (asked_at, ends)
            return ends

    async def _ask(self, topics: frozenset[str]) -> Mapping[Partition, int]:
        await self._revive()
        numbers = range(self._settings.partitions)
        sources = [TopicPartition(topic, number) for topic in topics for number in numbers]
        with own_cancellations_only():
            ends = await self._client.end_offsets(sources)
        return {Partition(source.topic, source.partition): offset for source, offset in ends.items()}

    async def _revive(self) -> None:
        """Replace a client that has died."""
        if self._client is not None and (dead := dead_task_of(self._client)) is not None:
            log.error("end_offsets.client_replaced", reason=f"dead_{dead}_task")
            metrics.CLIENTS_REPLACED.labels("end_offsets", f"dead_{dead}_task").inc()
            await self.stop()
        if self._client is None:
            await self.start()
