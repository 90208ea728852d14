"""Reading without a group: the tail of a partition, or a topic as it grows."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from types import TracebackType
from typing import Final, Self

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from shared.kafka import metrics
from shared.kafka.backoff import backoff_s
from shared.kafka.ending import end_bounded, own_cancellations_only, prepare_library
from shared.kafka.library_tasks import DeadTaskError, dead_task_of, fetch
from shared.kafka.records import Partition, Record
from shared.settings import KafkaSettings

__all__ = ["Follower", "read_tail", "to_record"]

log = structlog.get_logger()

FETCH_WAIT_MS: Final = 50
TAIL_TIMEOUT_S: Final = 60.0
"""Longer than any transaction may stay open on the broker and hold readers back."""

REQUEST_TIMEOUT_MS: Final = 8_000
"""How long a broker that hangs, or a connection that is dead, goes unnoticed."""

POSITION_TIMEOUT_S: Final = 10.0
CLOSE_TIMEOUT_S: Final = 5.0
PAUSE_AFTER_ERROR_S: Final = 0.5
LOG_APPEND_TIME: Final = 1
"""As Kafka's record batches tell it."""


async def read_tail(
    settings: KafkaSettings, partition: Partition, last: int, *, earliest: int = 0
) -> AsyncIterator[Record]:
    """The last `last` records of a partition up to where it ends now, oldest first.

    Raises:
        KafkaError, TimeoutError: the broker did not answer.
    """
    source = TopicPartition(*partition)
    async with asyncio.timeout(TAIL_TIMEOUT_S):
        client = await _connected(settings, FETCH_WAIT_MS)
        try:
            client.assign([source])
            with own_cancellations_only():
                begin = max(earliest, (await client.beginning_offsets([source]))[source])
                end = (await client.end_offsets([source]))[source]
            client.seek(source, max(begin, end - last))
            while await client.position(source) < end:
                for raw in (await fetch(client, source, timeout_ms=200)).get(source, ()):
                    if raw.offset < end:
                        yield to_record(raw)
        finally:
            await _stop_bounded(client)


class Follower:
    """Follows partitions of a topic without a group.

    Entered, its start position is resolved: nothing that is appended afterwards is missed. Errors of the
    broker are waited out, and a client that has died is replaced: positions are kept in this process.

    Args:
        settings: where the broker is.
        topic: full name.
        partitions: which of them.
        tail: how many records before the end to begin with; None begins with the first.
    """

    def __init__(
        self, settings: KafkaSettings, topic: str, *, partitions: Sequence[int], tail: int | None
    ) -> None:
        self._settings = settings
        self._topic = topic
        self._sources = [TopicPartition(topic, number) for number in partitions]
        self._tail = tail
        self._client: AIOKafkaConsumer = None
        self._positions: dict[TopicPartition, int] = {}
        self._ends: dict[TopicPartition, int] = {}

    @property
    def live(self) -> bool:
        """Whether it can hear anything: false until a client that has died is replaced."""
        return self._client is not None and dead_task_of(self._client) is None

    async def __aenter__(self) -> Self:
        """Connect and resolve the start.

        Raises:
            KafkaError, TimeoutError: the broker did not answer.
        """
        self._client = await _connected(self._settings, FETCH_WAIT_MS * 10)
        try:
            with own_cancellations_only():
                async with asyncio.timeout(POSITION_TIMEOUT_S):
                    begins = await self._client.beginning_offsets(self._sources)
                    self._ends = await self._client.end_offsets(self._sources)
        except BaseException:
            await _stop_bounded(self._client)
            raise
        for source in self._sources:
            start = 0 if self._tail is None else self._ends[source] - self._tail
            self._positions[source] = max(begins[source], start)
        self._go_to_positions()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._client is not None:
            await _stop_bounded(self._client)

    async def caught_up(self) -> bool:
        """Whether everything that was there at the start has been read."""
        for source, end in self._ends.items():
            with own_cancellations_only():
                async with asyncio.timeout(POSITION_TIMEOUT_S):
                    if await self._client.position(source) < end:
                        return False
        return True

    async def records(self) -> AsyncIterator[list[Record]]:
        """Batches as they come, for ever; an empty one when nothing came for a while."""
        while True:
            try:
                batches = await fetch(self._client, timeout_ms=500)
            except DeadTaskError as error:
                await self._replace_client(error.reason)
            except KafkaError as error:
                log.warning("follower.retried", topic=self._topic, error=repr(error))
                await asyncio.sleep(PAUSE_AFTER_ERROR_S)
                self._go_to_positions()  # the library may have dropped records and counted them as read
            else:
                records = [to_record(raw) for batch in batches.values() for raw in batch]
                for record in records:
                    self._positions[TopicPartition(record.topic, record.partition)] = record.offset + 1
                yield records

    async def _replace_client(self, reason: str) -> None:
        """Go on with a new client where the old one was; a log that is away is waited for."""
        log.error("follower.client_replaced", topic=self._topic, reason=reason)
        metrics.CLIENTS_REPLACED.labels("follower", reason).inc()
        dead, self._client = self._client, None
        await _stop_bounded(dead)
        for wait_s in backoff_s(cap_s=2.0):
            try:
                self._client = await _connected(self._settings, FETCH_WAIT_MS * 10)
            except (KafkaError, OSError) as error:
                log.warning("follower.retried", topic=self._topic, error=repr(error))
                await asyncio.sleep(wait_s)
            else:
                self._go_to_positions()
                return

    def _go_to_positions(self) -> None:
        """Nothing is awaited in between, or the client would begin elsewhere."""
        self._client.assign(self._sources)
        for source, position in self._positions.items():
            self._client.seek(source, position)


async def _connected(settings: KafkaSettings, fetch_max_wait_ms: int) -> AIOKafkaConsumer:
    """A client that has reached the broker, without an assignment.

    Raises:
        KafkaError, TimeoutError: the broker did not answer.
    """
    client = _client(settings, fetch_max_wait_ms)
    try:
        with own_cancellations_only():
            async with asyncio.timeout(POSITION_TIMEOUT_S):
                await client.start()
    except BaseException:
        await _stop_bounded(client)
        raise
    return client


def _client(settings: KafkaSettings, fetch_max_wait_ms: int) -> AIOKafkaConsumer:
    prepare_library()
    return AIOKafkaConsumer(
        bootstrap_servers=settings.kafka,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        isolation_level="read_committed",
        fetch_max_wait_ms=fetch_max_wait_ms,
        request_timeout_ms=REQUEST_TIMEOUT_MS,
    )


async def _stop_bounded(client: AIOKafkaConsumer) -> None:
    problem = await end_bounded(client.stop(), CLOSE_TIMEOUT_S)
    if problem is not None:
        log.warning("follower.close_failed", error=repr(problem))
        await end_bounded(client._client.close(), CLOSE_TIMEOUT_S)


def to_record(raw: object) -> Record:
    """A record of the client library as one of ours; a header without a value becomes an empty one."""
    headers = raw.headers  # type: ignore[attr-defined]  # the client library is untyped
    if None in [value for _, value in headers]:
        headers = tuple([(name, value or b"") for name, value in headers])
    return Record(
        raw.topic,  # type: ignore[attr-defined]  # the client library is untyped
        raw.partition,  # type: ignore[attr-defined]
        raw.offset,  # type: ignore[attr-defined]
        raw.timestamp,  # type: ignore[attr-defined]
        raw.key,  # type: ignore[attr-defined]
        raw.value,  # type: ignore[attr-defined]
        headers,
        raw.timestamp_type == LOG_APPEND_TIME,  # type: ignore[attr-defined]
    )
