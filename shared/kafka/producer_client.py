"""The client library's producer, typed and bounded: one life of it."""

import asyncio
import contextlib
import time
from collections.abc import Awaitable
from itertools import chain
from typing import Final

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, ProducerClosed
from aiokafka.producer.message_accumulator import MessageAccumulator, MessageBatch

from shared.kafka.append_errors import LogUnavailable, SendRefused, log_error
from shared.kafka.ending import end_bounded, own_cancellations_only, prepare_library
from shared.kafka.library_tasks import dead_task_of
from shared.kafka.records import OutgoingRecord, Position
from shared.kafka.topics import LETTER_BYTES, Topic
from shared.settings import KafkaSettings

__all__ = ["SILENCE", "ProducerClient"]

log = structlog.get_logger()

BATCH_BYTES: Final = 64 * 1024
START_TIMEOUT_S: Final = 12.0
"""Longer than connecting and one request: what the library gives up by itself it also closes."""

SILENCE: Final = "silence"
"""The failure of a client that the broker does not answer, although it answers others."""

FLUSH_TIMEOUT_S: Final = 2.0
KILL_TIMEOUT_S: Final = 1.0
MOST_RECORDS: Final = 2**30
"""The library's sequence numbers overflow at 2^31 records per partition; a new client starts at 0."""

LOOKUP_INTERVAL_S: Final = 0.25
"""Topics are looked up at most so often, whoever asks for missing ones."""


class ProducerClient:
    """Appends with acks=all, at most once for each call, for as long as it lives.

    A record waits for others of its partition for `linger_ms`. Without `idempotent` a failed batch costs
    nothing but its records, and what the client sends again in an outage may be written twice.
    """

    def __init__(self, settings: KafkaSettings, *, linger_ms: int = 0, idempotent: bool = True) -> None:
        self._idempotent = idempotent
        self._address = settings.kafka
        prepare_library()
        self._client = AIOKafkaProducer(
            bootstrap_servers=settings.kafka,
            client_id=f"{settings.topic_prefix}producer",
            acks="all",
            enable_idempotence=idempotent,
            linger_ms=linger_ms,
            max_batch_size=BATCH_BYTES,
            max_request_size=LETTER_BYTES,
            request_timeout_ms=settings.send_timeout_ms,
        )
        self.failure: str | None = None
        """Why it is of no more use and to be replaced."""

        self.replaced = asyncio.Event()
        self._failed = asyncio.Event()
        self._records = 0
        self._heard_at = time.monotonic()
        self._topics: frozenset[str] = frozenset()
        self._looked_up_at = 0.0
        self._looking_up = asyncio.Lock()

    async def start(self) -> None:
        """Connect.

        Raises:
            LogUnavailable: no broker answered.
        """
        try:
            with own_cancellations_only():
                async with asyncio.timeout(START_TIMEOUT_S):
                    await self._client.start()
        except BaseException as error:
            await self.close()
            if isinstance(error, KafkaError | OSError):  # a passed deadline is an OSError
                raise LogUnavailable(f"no broker at {self._address}: {error!r}") from error
            raise

    async def enqueue(self, name: str, record: OutgoingRecord) -> Awaitable[Position]:
        """Queue `record` for topic `name`; await the result for its acknowledgement, for as long as it takes.

        An exception or a cancellation of this call means that the record is not sent. The result raises
        `SendUnknown` where its batch has failed, or the client was closed while it waited for the answer.

        Raises:
            LogUnavailable: it cannot be sent now.
            SendRefused: it can never be sent.
        """
        await self._check_topic(name, record)
        try:
            future: asyncio.Future[object] = await self._client.send(
                name,
                value=record.value,
                key=record.key,
                headers=list(record.headers),
                partition=record.partition,
            )
        except KafkaError as error:
            raise log_error(name, error, sent=False) from error
        self._records += 1
        if self._idempotent and self._records >= MOST_RECORDS:
            self.fail("sequence_space")
        return self._acknowledgement(name, future)

    async def _acknowledgement(self, name: str, future: "asyncio.Future[object]") -> Position:
        try:
            metadata = await future
        except KafkaError as error:
            if self._idempotent and not isinstance(error, ProducerClosed):
                self.fail(type(error).__name__)  # the sequence numbers of the failed batch are missing
            raise log_error(name, error, sent=not isinstance(error, _NeverSentError)) from error
        return Position(
            metadata.topic,  # type: ignore[attr-defined]  # the client library is untyped
            metadata.partition,  # type: ignore[attr-defined]
            metadata.offset,  # type: ignore[attr-defined]
            metadata.timestamp,  # type: ignore[attr-defined]
        )

    def fail(self, reason: str) -> None:
        """Be of no more use, because of `reason`."""
        self.failure = self.failure or reason
        self._failed.set()

    async def until_failed(self, timeout_s: float) -> None:
        """Wait for a failure, for at most `timeout_s`; find a task that has died in silence."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._failed.wait()
        dead = dead_task_of(self._client)
        if dead is not None:
            self.fail(f"dead_{dead}_task")

    def silent_s(self) -> float:
        """For how long the broker has answered nothing at all although records wait; 0 when none do.

        To be asked every second or so: a moment between two questions in which none waited is not seen.
        """
        now, queue = time.monotonic(), self._client._message_accumulator
        waiting = queue._batches or queue._pending_batches
        answers = [connection._last_action for connection in self._client.client._conns.values()]
        self._heard_at = max(self._heard_at, *answers, 0.0 if waiting else now)
        return now - self._heard_at

    async def _check_topic(self, name: str, record: OutgoingRecord) -> None:
        partitions = await self.partitions(name)
        if not partitions and isinstance(record.topic, Topic):
            raise LogUnavailable(f"topic {name} is missing: run `consuma topics apply`")
        if not partitions:
            raise SendRefused(f"there is no topic {name}")
        if record.partition is not None and record.partition not in partitions:
            raise SendRefused(f"topic {name} has no partition {record.partition}")

    async def partitions(self, name: str) -> frozenset[int] | set[int]:
        """Of topic `name`; none if it does not exist. Nobody is asked about a topic that is in use.

        The library would look for a missing topic for seconds, and delay what it has to do for others.

        Raises:
            LogUnavailable: the broker does not tell.
        """
        known: set[int] | None = self._client.client.cluster.partitions_for_topic(name)
        if known is None:
            try:
                with own_cancellations_only():
                    known = await self._client.partitions_for(name) if await self._exists(name) else None
            except KafkaError as error:
                raise LogUnavailable(f"where {name} lies is not known: {error!r}") from error
        return known or frozenset()

    async def _exists(self, name: str) -> bool:
        """Whether the topic exists. One that did when this was asked is never called missing."""
        asked_at = time.monotonic()
        async with self._looking_up:
            if self._looked_up_at <= asked_at:
                await asyncio.sleep(max(0.0, self._looked_up_at + LOOKUP_INTERVAL_S - time.monotonic()))
                looked_up_at = time.monotonic()
                self._topics = frozenset((await self._client.client.fetch_all_metadata()).topics())
                self._looked_up_at = looked_up_at
        return name in self._topics

    async def close(self) -> None:
        """Flush and disconnect; bounded, and safe to repeat. Who still waits afterwards gets an error.

        The library's own `stop` waits for ever for a batch that it cannot deliver, and its sender then goes
        on trying: it has to be ended from outside. A cancelled sender queues its unfinished batches again.
        """
        queue = self._client._message_accumulator
        queue._closed = self._client._closed = True
        if self._client._sender.sender_task is not None and self.failure != SILENCE:
            problem = await end_bounded(queue.flush(), FLUSH_TIMEOUT_S)
            if problem is not None:
                log.warning("log.producer_unflushed", error=repr(problem))
        await end_bounded(self._client._sender.close(), KILL_TIMEOUT_S)
        await end_bounded(self._client.client.close(), KILL_TIMEOUT_S)
        for batch in [*chain.from_iterable(queue._batches.values()), *queue._pending_batches]:
            _give_up(queue, batch)


class _NeverSentError(ProducerClosed):  # type: ignore[misc]  # the client library is untyped
    """The client was closed before it had sent the record: it is not written, and will not be."""


def _give_up(queue: MessageAccumulator, batch: MessageBatch) -> None:
    """Fail those who wait for `batch`, or for room in it; the library stumbles over what it queued again."""
    queue._pending_batches.add(batch)  # a callback of the library removes it from there
    batch.failure(ProducerClosed() if batch.retry_count else _NeverSentError())
    if not batch._drain_waiter.cancelled():
        batch._drain_waiter.exception()  # seen, should nobody wait for it
