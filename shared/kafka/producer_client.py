"""The client library's idempotent producer, typed and bounded: one life of it."""

import asyncio
from collections.abc import Awaitable
from itertools import chain
from typing import Final

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import ProducerClosed

from shared.kafka.ending import end_bounded
from shared.kafka.records import OutgoingRecord, Position
from shared.kafka.topics import LETTER_BYTES
from shared.settings import KafkaSettings

__all__ = ["ProducerClient"]

log = structlog.get_logger()

BATCH_BYTES: Final = 64 * 1024
START_TIMEOUT_S: Final = 12.0
"""Longer than connecting and one request: what the library gives up by itself it also closes."""

FLUSH_TIMEOUT_S: Final = 2.0
CLOSE_TIMEOUT_S: Final = 2.0


class ProducerClient:
    """Appends with acks=all, at most once for each call.

    A record waits for others of its partition for `linger_ms`.
    """

    def __init__(self, settings: KafkaSettings, *, linger_ms: int = 0) -> None:
        self._client = AIOKafkaProducer(
            bootstrap_servers=settings.kafka,
            client_id=f"{settings.topic_prefix}producer",
            acks="all",
            enable_idempotence=True,
            linger_ms=linger_ms,
            max_batch_size=BATCH_BYTES,
            max_request_size=LETTER_BYTES,
            request_timeout_ms=settings.send_timeout_ms,
        )

    async def start(self) -> None:
        """Connect.

        Raises:
            KafkaError, TimeoutError, OSError: no broker answered.
        """
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                await self._client.start()
        except BaseException:
            await self.close()
            raise

    async def enqueue(self, topic: str, record: OutgoingRecord) -> Awaitable[Position]:
        """Queue `record` for sending; await the result for its acknowledgement.

        An exception or a cancellation of this call means that the record is not sent; of the result, that it
        may still be.

        Raises:
            KafkaError: it cannot be sent.
        """
        future: asyncio.Future[object] = await self._client.send(
            topic,
            value=record.value,
            key=record.key,
            headers=list(record.headers),
            partition=record.partition,
        )
        return _position(future)

    async def partitions(self, topic: str) -> frozenset[int]:
        """Partitions of a topic that exists.

        Raises:
            KafkaError: the broker does not tell.
        """
        return frozenset(await self._client.partitions_for(topic))

    async def topics(self) -> frozenset[str]:
        """Every topic that exists.

        Raises:
            KafkaError: the broker does not tell.
        """
        cluster = await self._client.client.fetch_all_metadata()
        return frozenset(cluster.topics())

    async def close(self) -> None:
        """Flush and disconnect. What is not acknowledged soon fails with `ProducerClosed`.

        The library's own `stop` waits for ever for a batch that it cannot deliver, and its sender then goes
        on trying: it has to be ended from outside.
        """
        problem = await end_bounded(self._client.stop(), FLUSH_TIMEOUT_S)
        if problem is not None:
            log.warning("log.producer_unflushed", error=repr(problem))
            await self._kill()

    async def _kill(self) -> None:
        """End the sender, then fail what it held: at its end it queues again what it was sending."""
        await end_bounded(self._client._sender.close(), CLOSE_TIMEOUT_S)
        await end_bounded(self._client.client.close(), CLOSE_TIMEOUT_S)
        self._fail_queued()

    def _fail_queued(self) -> None:
        """Fail those who wait for a batch or for room in it.

        The library's `fail_all` does as much, but stumbles over batches that it has queued again.
        """
        queue = self._client._message_accumulator
        queue._exception = ProducerClosed()
        for batch in [*chain.from_iterable(queue._batches.values()), *queue._pending_batches]:
            room = batch._drain_waiter
            for future in [room, *(future for future, _ in batch._msg_futures)]:
                if not future.done():
                    future.set_exception(ProducerClosed())
            if not room.cancelled():
                room.exception()  # seen, should nobody wait for it


async def _position(future: asyncio.Future[object]) -> Position:
    metadata = await future
    return Position(
        metadata.topic,  # type: ignore[attr-defined]  # the client library is untyped
        metadata.partition,  # type: ignore[attr-defined]
        metadata.offset,  # type: ignore[attr-defined]
        metadata.timestamp,  # type: ignore[attr-defined]
    )
