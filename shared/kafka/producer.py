"""The one way into the log: an idempotent producer whose every wait has a bound.

A send that is not acknowledged in time is *unknown*: the record may still be written. That is safe because
ids are derived and readers know a repeat. The client library never gives up on a batch and does not recover
from a lost sequence by itself, so a supervisor replaces it when it reports such an error, or when nothing
has been acknowledged for long.
"""

import asyncio
import contextlib
import time
from typing import Final

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import (
    IllegalOperation,
    InvalidProducerEpoch,
    InvalidTopicError,
    KafkaError,
    MessageSizeTooLargeError,
    OutOfOrderSequenceNumber,
    ProducerClosed,
    ProducerFenced,
    RecordTooLargeError,
    TopicAuthorizationFailedError,
    UnknownProducerId,
)

from shared.kafka import metrics
from shared.kafka.backoff import backoff_s
from shared.kafka.records import OutgoingRecord, Position
from shared.kafka.topics import LETTER_BYTES, Topic, topic_name
from shared.settings import KafkaSettings

__all__ = ["LogError", "LogUnavailable", "SendRefused", "SendUnknown", "SupervisedProducer"]

log = structlog.get_logger()

REQUEST_OVERHEAD_BYTES: Final = 64 * 1024
MAX_UNACKED_BYTES: Final = 64 * 1024 * 1024
STOP_TIMEOUT_S: Final = 2.0
START_TIMEOUT_S: Final = 10.0
SILENCE_BEFORE_REBUILD_S: Final = 15.0
SENDS_BEFORE_REBUILD: Final = 2**30
"""The client's sequence numbers overflow at 2^31 records per partition; a new producer starts at 0."""

_FATAL: Final = (
    OutOfOrderSequenceNumber,
    UnknownProducerId,
    ProducerFenced,
    InvalidProducerEpoch,
    ProducerClosed,
    IllegalOperation,
)
_REFUSALS: Final = (
    MessageSizeTooLargeError,
    RecordTooLargeError,
    InvalidTopicError,
    TopicAuthorizationFailedError,
)


class LogError(Exception):
    """A record could not be appended."""


class SendUnknown(LogError):  # noqa: N818 - an outcome that callers name, not a fault
    """No acknowledgement in time: the record may or may not be written, now or later."""


class LogUnavailable(LogError):  # noqa: N818 - see above
    """The record was not accepted for sending; it will not be written."""


class SendRefused(LogError):  # noqa: N818 - see above
    """The record can never be written: it is too large, or its topic is not allowed."""


class SupervisedProducer:
    """Appends records with acks=all, in the order of calls within a partition.

    Holds at most `MAX_UNACKED_BYTES` of unacknowledged records; beyond that sends fail at once.
    """

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self._client: AIOKafkaProducer | None = None
        self._rebuild: asyncio.Task[None] | None = None
        self._retired: set[asyncio.Task[None]] = set()
        self._unacked_bytes = 0
        self._sends = 0
        self._last_ack = time.monotonic()

    async def start(self) -> None:
        """Connect.

        Raises:
            LogUnavailable: no broker answered.
        """
        self._client = await self._connect()

    async def stop(self) -> None:
        """Flush and disconnect, within a bound even when the broker is away."""
        if self._rebuild is not None:
            self._rebuild.cancel()
            await asyncio.gather(self._rebuild, return_exceptions=True)
        client, self._client = self._client, None
        if client is not None:
            await _stop_bounded(client)
        await asyncio.gather(*self._retired, return_exceptions=True)

    async def send(self, record: OutgoingRecord, *, timeout_ms: int | None = None) -> Position:
        """Append one record and wait for the acknowledgement of all in-sync replicas.

        Raises:
            SendUnknown: no acknowledgement within `timeout_ms` (default: the setting).
            LogUnavailable: it was not sent.
            SendRefused: it can never be sent.
        """
        client = self._client
        if client is None:
            raise LogUnavailable("the producer is not connected")
        size = len(record.key or b"") + len(record.value or b"")
        if self._unacked_bytes + size > MAX_UNACKED_BYTES:
            raise LogUnavailable(f"{self._unacked_bytes} bytes wait for an acknowledgement already")
        self._unacked_bytes += size
        try:
            return await self._send(client, record, (timeout_ms or self._settings.send_timeout_ms) / 1000)
        finally:
            self._unacked_bytes -= size

    async def append(self, record: OutgoingRecord) -> Position:
        """Append one record, trying until it is acknowledged: for work whose effect must be recorded.

        Ends early only by cancellation. A repeat after an unknown send may write the record twice.

        Raises:
            SendRefused: it can never be written.
        """
        for wait_s in backoff_s():
            try:
                return await self.send(record)
            except (SendUnknown, LogUnavailable) as error:
                metrics.SEND_RETRIES.inc()
                log.warning("log.append_retried", topic=str(record.topic), error=str(error))
                await asyncio.sleep(wait_s)
        raise AssertionError("back-off is endless")

    async def _send(self, client: AIOKafkaProducer, record: OutgoingRecord, timeout_s: float) -> Position:
        topic = record.topic
        name = topic_name(self._settings, topic) if isinstance(topic, Topic) else topic
        try:
            async with asyncio.timeout(timeout_s):
                metadata = await client.send_and_wait(
                    name,
                    value=record.value,
                    key=record.key,
                    headers=list(record.headers),
                    partition=record.partition,
                )
        except TimeoutError:
            self._note_silence(client)
            raise SendUnknown(f"no acknowledgement from {name} within {timeout_s:.1f} s") from None
        except _REFUSALS as error:
            raise SendRefused(f"{name}: {error}") from error
        except _FATAL as error:
            self._replace(client, type(error).__name__)
            raise SendUnknown(f"{name}: {type(error).__name__}") from error
        except KafkaError as error:
            self._note_silence(client)
            raise LogUnavailable(f"{name}: {type(error).__name__}: {error}") from error
        self._note_ack(client)
        return Position(metadata.topic, metadata.partition, metadata.offset, metadata.timestamp)

    def _note_ack(self, client: AIOKafkaProducer) -> None:
        self._last_ack = time.monotonic()
        self._sends += 1
        if self._sends >= SENDS_BEFORE_REBUILD:
            self._replace(client, "sequence_space")

    def _note_silence(self, client: AIOKafkaProducer) -> None:
        if time.monotonic() - self._last_ack > SILENCE_BEFORE_REBUILD_S:
            self._replace(client, "silence")

    def _replace(self, client: AIOKafkaProducer, reason: str) -> None:
        """Have a new client take over from `client`; one takeover at a time."""
        if self._client is not client or (self._rebuild is not None and not self._rebuild.done()):
            return
        log.warning("log.producer_rebuilding", reason=reason)
        metrics.PRODUCER_REBUILDS.labels(reason).inc()
        self._rebuild = asyncio.create_task(self._take_over(client), name="producer-rebuild")

    async def _take_over(self, old: AIOKafkaProducer) -> None:
        for wait_s in backoff_s(cap_s=2.0):
            try:
                self._client = await self._connect()
                break
            except LogUnavailable as error:
                log.warning("log.producer_rebuild_failed", error=str(error))
                await asyncio.sleep(wait_s)
        self._last_ack = time.monotonic()
        self._sends = 0
        retiring = asyncio.create_task(_stop_bounded(old), name="producer-retire")
        self._retired.add(retiring)
        retiring.add_done_callback(self._retired.discard)

    async def _connect(self) -> AIOKafkaProducer:
        client = AIOKafkaProducer(
            bootstrap_servers=self._settings.kafka,
            client_id="consuma",
            acks="all",
            enable_idempotence=True,
            linger_ms=0,
            max_batch_size=REQUEST_OVERHEAD_BYTES,
            max_request_size=LETTER_BYTES + REQUEST_OVERHEAD_BYTES,
            request_timeout_ms=self._settings.send_timeout_ms,
        )
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                await client.start()
        except (KafkaError, TimeoutError, OSError) as error:
            await _stop_bounded(client)
            raise LogUnavailable(f"no broker at {self._settings.kafka}: {error}") from error
        return client


async def _stop_bounded(client: AIOKafkaProducer) -> None:
    """The client's own stop waits for ever for batches that it cannot deliver."""
    with contextlib.suppress(TimeoutError, KafkaError):
        async with asyncio.timeout(STOP_TIMEOUT_S):
            await client.stop()
