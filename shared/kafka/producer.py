"""The one way into the log: an idempotent producer whose every wait has a bound.

A send that is not acknowledged in time is *unknown*: the record may still be written. That is safe because
ids are derived and readers know a repeat. The client library never gives up on a batch and does not recover
from a lost sequence by itself, so it is replaced when it reports such an error, when it has failed a batch
(whose sequence numbers are then missing), and when nothing has been acknowledged for long.
"""

import asyncio
import time
from collections.abc import Awaitable
from typing import Final

import structlog
from aiokafka.errors import (
    InvalidTimestampError,
    InvalidTopicError,
    KafkaError,
    MessageSizeTooLargeError,
    ProducerClosed,
    RecordListTooLargeError,
    TopicAuthorizationFailedError,
)

from shared.kafka import metrics
from shared.kafka.backoff import backoff_s
from shared.kafka.producer_client import ProducerClient
from shared.kafka.records import OutgoingRecord, Position
from shared.kafka.topic_directory import TopicDirectory
from shared.kafka.topics import Topic, topic_name, topic_table
from shared.settings import KafkaSettings

__all__ = [
    "LogError",
    "LogUnavailable",
    "RecordTooLarge",
    "SendRefused",
    "SendUnknown",
    "SupervisedProducer",
]

log = structlog.get_logger()

MAX_UNACKED_BYTES: Final = 64 * 1024 * 1024
MAX_UNACKED_SENDS: Final = 10_000
BATCH_OVERHEAD_BYTES: Final = 61 + 21
"""Header of a batch, and the most that lengths and deltas of one record take in format 2 of the log."""

HEADER_OVERHEAD_BYTES: Final = 10
SILENCE_BEFORE_REBUILD_S: Final = 8.0
SENDS_BEFORE_REBUILD: Final = 2**30
"""The client's sequence numbers overflow at 2^31 records per partition; a new producer starts at 0."""

_TOO_LARGE: Final = (MessageSizeTooLargeError, RecordListTooLargeError)
_REFUSALS: Final = (
    ProducerClosed,
    InvalidTopicError,
    InvalidTimestampError,
    TopicAuthorizationFailedError,
)


class LogError(Exception):
    """A record could not be appended."""


class SendUnknown(LogError):  # noqa: N818 - an outcome that callers name, not a fault
    """No acknowledgement: the record may or may not be written, now or later."""


class LogUnavailable(LogError):  # noqa: N818 - see above
    """The record was not accepted for sending: it is not written, and trying again may help."""


class SendRefused(LogError):  # noqa: N818 - see above
    """The record is not written and can never be: it is too large, or its topic is absent or not allowed."""


class RecordTooLarge(SendRefused):
    """The topic takes no record of that size."""


class SupervisedProducer:
    """Appends records with acks=all. Only sends that await one another are written in their order.

    Holds at most `MAX_UNACKED_BYTES` and `MAX_UNACKED_SENDS` that wait for an acknowledgement; beyond that
    sends fail at once.

    Args:
        settings: where the broker is, and time limits.
        linger_ms: how long a record waits for others to share its request, which saves both ends work; for
            records that nobody waits for.
    """

    def __init__(self, settings: KafkaSettings, *, linger_ms: int = 0) -> None:
        self._settings = settings
        self._linger_ms = linger_ms
        self._limits = {topic_name(settings, spec.topic): spec.max_bytes for spec in topic_table(settings)}
        self._names = {topic: topic_name(settings, topic) for topic in Topic}
        self._directory = TopicDirectory()
        self._client: ProducerClient | None = None
        self._rebuild: asyncio.Task[None] | None = None
        self._retiring: set[asyncio.Task[None]] = set()
        self._unacked_bytes = 0
        self._unacked_sends = 0
        self._sends = 0
        self._silent_since: float | None = None

    async def start(self) -> None:
        """Connect.

        Raises:
            LogUnavailable: no broker answered.
        """
        self._client = await self._connect()

    async def prepare(self, *topics: Topic) -> None:
        """Learn where `topics` lie, so that the first send to them takes no longer than the next ones.

        One that is missing is left to its first send.

        Raises:
            LogUnavailable: the broker does not tell.
        """
        client = self._current()
        try:
            for name in (self._names[topic] for topic in topics):
                if await self._directory.knows(client, name):
                    await client.partitions(name)
        except KafkaError as error:
            raise LogUnavailable(f"where topics lie is not known: {error!r}") from error

    async def stop(self) -> None:
        """Flush and disconnect, within a few seconds even when the broker is away."""
        client, self._client = self._client, None
        if self._rebuild is not None:
            self._rebuild.cancel()
            await asyncio.wait([self._rebuild])
        if client is not None:
            await client.close()
        if self._retiring:
            await asyncio.wait(self._retiring)

    async def send(self, record: OutgoingRecord, *, timeout_ms: int | None = None) -> Position:
        """Append one record and wait for the acknowledgement of all in-sync replicas.

        Raises:
            SendUnknown: no acknowledgement within `timeout_ms` (default: the setting).
            LogUnavailable: it was not sent.
            SendRefused: it can never be sent; `RecordTooLarge` if that is why.
        """
        size = _size(record)
        name = self._names[record.topic] if isinstance(record.topic, Topic) else record.topic
        if size + BATCH_OVERHEAD_BYTES > self._limits.get(name, size + BATCH_OVERHEAD_BYTES):
            raise RecordTooLarge(f"{size} bytes do not fit {name}, which takes {self._limits[name]}")
        self._reserve(size)
        try:
            return await self._send(name, record, (timeout_ms or self._settings.send_timeout_ms) / 1000)
        finally:
            self._reserve(-size)

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

    def _current(self) -> ProducerClient:
        if self._client is None:
            raise LogUnavailable("the producer is not connected")
        if self._rebuild is not None and self._rebuild.done():
            self._rebuild.result()  # a bug in the takeover ends whoever needs the log
        return self._client

    def _reserve(self, size: int) -> None:
        if size > 0 and (
            self._unacked_bytes + size > MAX_UNACKED_BYTES or self._unacked_sends >= MAX_UNACKED_SENDS
        ):
            raise LogUnavailable(
                f"{self._unacked_sends} records of {self._unacked_bytes} bytes wait for acknowledgements"
            )
        self._unacked_bytes += size
        self._unacked_sends += 1 if size > 0 else -1
        metrics.UNACKED_BYTES.set(self._unacked_bytes)

    async def _send(self, name: str, record: OutgoingRecord, timeout_s: float) -> Position:
        client = self._current()
        self._silent_since = self._silent_since or time.monotonic()
        queued = False
        try:
            async with asyncio.timeout(timeout_s):
                client, acknowledgement = await self._enqueue(name, record)
                queued = True
                position = await acknowledgement
        except TimeoutError:
            self._note_silence(client, name)
            problem = f"no acknowledgement from {name} within {timeout_s:.1f} s"
            raise (SendUnknown if queued else LogUnavailable)(problem) from None
        except KafkaError as error:
            raise self._failed(client, name, error, queued=queued) from error
        self._note_ack(client)
        return position

    async def _enqueue(self, name: str, record: OutgoingRecord) -> tuple[ProducerClient, Awaitable[Position]]:
        """Queue `record` with the present client; one that is closed on the way has not taken it."""
        while True:
            client = self._current()
            await self._check_topic(client, name, record.partition)
            try:
                return client, await client.enqueue(name, record)
            except ProducerClosed:
                if client is self._client:
                    raise

    async def _check_topic(self, client: ProducerClient, name: str, partition: int | None) -> None:
        """Do not ask the client library about a topic that is not there: it would look for it for long."""
        if not await self._directory.knows(client, name):
            if name in self._limits:
                raise LogUnavailable(f"topic {name} is missing: run `consuma topics apply`")
            raise SendRefused(f"there is no topic {name}")
        if partition is not None and partition not in await client.partitions(name):
            raise SendRefused(f"topic {name} has no partition {partition}")

    def _failed(self, client: ProducerClient, name: str, error: KafkaError, *, queued: bool) -> LogError:
        """What `error` means, and whether the client survives it."""
        problem = f"{name}: {type(error).__name__}: {error}"
        if queued:
            self._replace(client, type(error).__name__)  # the numbers of the failed batch are missing now
        if isinstance(error, _TOO_LARGE):
            return RecordTooLarge(problem)
        if isinstance(error, _REFUSALS) and not (queued and isinstance(error, ProducerClosed)):
            return SendRefused(problem)
        if queued:
            return SendUnknown(problem)  # closed while it held the record, too: it may have been sent before
        self._note_silence(client, name)
        return LogUnavailable(problem)

    def _note_ack(self, client: ProducerClient) -> None:
        self._silent_since = None
        self._sends += 1
        if self._sends >= SENDS_BEFORE_REBUILD:
            self._replace(client, "sequence_space")

    def _note_silence(self, client: ProducerClient, name: str) -> None:
        self._directory.doubt(name)
        if self._silent_since and time.monotonic() - self._silent_since > SILENCE_BEFORE_REBUILD_S:
            self._replace(client, "silence")

    def _replace(self, client: ProducerClient, reason: str) -> None:
        """Have a new client take over from `client`; one takeover at a time."""
        if self._client is not client or (self._rebuild is not None and not self._rebuild.done()):
            return
        log.warning("log.producer_rebuilding", reason=reason)
        metrics.PRODUCER_REBUILDS.labels(reason).inc()
        self._rebuild = asyncio.create_task(self._take_over(client), name="producer-rebuild")

    async def _take_over(self, old: ProducerClient) -> None:
        for wait_s in backoff_s(cap_s=2.0):
            try:
                self._client = await self._connect()
                break
            except LogUnavailable as error:
                log.warning("log.producer_rebuild_failed", error=str(error))
                await asyncio.sleep(wait_s)
        self._silent_since = None
        self._sends = 0
        retiring = asyncio.create_task(old.close(), name="producer-retire")
        self._retiring.add(retiring)
        retiring.add_done_callback(self._retired)

    def _retired(self, task: asyncio.Task[None]) -> None:
        self._retiring.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("log.producer_close_failed", exc_info=error)

    async def _connect(self) -> ProducerClient:
        client = ProducerClient(self._settings, linger_ms=self._linger_ms)
        try:
            await client.start()
        except (KafkaError, TimeoutError, OSError) as error:
            raise LogUnavailable(f"no broker at {self._settings.kafka}: {error!r}") from error
        return client


def _size(record: OutgoingRecord) -> int:
    headers = sum([len(name) + len(value) + HEADER_OVERHEAD_BYTES for name, value in record.headers])
    return len(record.key or b"") + len(record.value or b"") + headers + 1
