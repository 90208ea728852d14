"""Reading without a group: the tail of a partition, or a topic as it grows."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from types import TracebackType
from typing import Final, Self

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from shared.kafka.ending import end_bounded, own_cancellations_only
from shared.kafka.header_names import read_any_header_names
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


async def read_tail(
    settings: KafkaSettings, partition: Partition, last: int, *, earliest: int = 0
) -> AsyncIterator[Record]:
    """The last `last` records of a partition up to where it ends now, oldest first.

    Raises:
        KafkaError, TimeoutError: the broker did not answer.
    """
    source = TopicPartition(*partition)
    async with _Client(settings, fetch_max_wait_ms=FETCH_WAIT_MS) as client, asyncio.timeout(TAIL_TIMEOUT_S):
        client.assign([source])
        begin = max(earliest, (await client.beginning_offsets([source]))[source])
        end = (await client.end_offsets([source]))[source]
        client.seek(source, max(begin, end - last))
        while await client.position(source) < end:
            for raw in (await client.getmany(source, timeout_ms=200)).get(source, ()):
                if raw.offset < end:
                    yield to_record(raw)


class Follower:
    """Follows partitions of a topic without a group.

    Entered, its start position is resolved: nothing that is appended afterwards is missed. Errors of the
    broker are waited out; positions are kept in this process.

    Args:
        settings: where the broker is.
        topic: full name.
        partitions: which of them.
        tail: how many records before the end to begin with; None begins with the first.
    """

    def __init__(
        self, settings: KafkaSettings, topic: str, *, partitions: Sequence[int], tail: int | None
    ) -> None:
        self._topic = topic
        self._partitions = partitions
        self._tail = tail
        self._client = _client(settings, fetch_max_wait_ms=FETCH_WAIT_MS * 10)
        self._ends: dict[TopicPartition, int] = {}

    async def __aenter__(self) -> Self:
        """Connect and resolve the start.

        Raises:
            KafkaError, TimeoutError: the broker did not answer.
        """
        try:
            with own_cancellations_only():
                async with asyncio.timeout(POSITION_TIMEOUT_S):
                    await self._client.start()
                    await self._seek_to_start()
        except BaseException:
            await _stop_bounded(self._client)
            raise
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await _stop_bounded(self._client)

    async def caught_up(self) -> bool:
        """Whether everything that was there at the start has been read."""
        for source, end in self._ends.items():
            async with asyncio.timeout(POSITION_TIMEOUT_S):
                if await self._client.position(source) < end:
                    return False
        return True

    async def records(self) -> AsyncIterator[list[Record]]:
        """Batches as they come, for ever; an empty one when nothing came for a while."""
        while True:
            try:
                with own_cancellations_only():
                    batches = await self._client.getmany(timeout_ms=500)
            except KafkaError as error:
                log.warning("follower.retried", topic=self._topic, error=repr(error))
                await asyncio.sleep(PAUSE_AFTER_ERROR_S)
                continue
            yield [to_record(raw) for batch in batches.values() for raw in batch]

    async def _seek_to_start(self) -> None:
        sources = [TopicPartition(self._topic, number) for number in self._partitions]
        self._client.assign(sources)
        begins = await self._client.beginning_offsets(sources)
        self._ends = await self._client.end_offsets(sources)
        for source in sources:
            start = begins[source] if self._tail is None else self._ends[source] - self._tail
            self._client.seek(source, max(begins[source], start))


class _Client:
    """A client for one reading, closed at its end."""

    def __init__(self, settings: KafkaSettings, fetch_max_wait_ms: int) -> None:
        self._client = _client(settings, fetch_max_wait_ms)

    async def __aenter__(self) -> AIOKafkaConsumer:
        try:
            await self._client.start()
        except BaseException:
            await _stop_bounded(self._client)
            raise
        return self._client

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await _stop_bounded(self._client)


def _client(settings: KafkaSettings, fetch_max_wait_ms: int) -> AIOKafkaConsumer:
    read_any_header_names()
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
    return Record(
        raw.topic,  # type: ignore[attr-defined]  # the client library is untyped
        raw.partition,  # type: ignore[attr-defined]
        raw.offset,  # type: ignore[attr-defined]
        raw.timestamp,  # type: ignore[attr-defined]
        raw.key,  # type: ignore[attr-defined]
        raw.value,  # type: ignore[attr-defined]
        tuple([(name, value or b"") for name, value in raw.headers]),  # type: ignore[attr-defined]
    )
