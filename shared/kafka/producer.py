"""The one way into the log: an idempotent producer that is replaced when it is of no more use.

The client library never gives up on a batch: through an outage it sends the same one again, under the same
sequence numbers, and the broker writes it once. So a record is handed to it once, and waited for as long as
that client lives. It is replaced when it has failed a batch (whose sequence numbers are then missing), when
a task of its own has died, and when the broker has answered nothing to it for long but does answer a new one.

What the old client had queued but not sent is not written, and queued anew. What it had sent and got no
answer for is *unknown*: queued anew, it may be written twice. That is one request for each broker, and it is
safe because ids are derived and readers know a repeat.
"""

import asyncio
from collections.abc import Awaitable
from typing import Final

import structlog

from shared.kafka import metrics
from shared.kafka.append_errors import LogError, LogUnavailable, RecordTooLarge, SendRefused, SendUnknown
from shared.kafka.backoff import backoff_s
from shared.kafka.producer_client import SILENCE, ProducerClient
from shared.kafka.records import OutgoingRecord, Position
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
LOOK_INTERVAL_S: Final = 1.0
SILENCE_S: Final = 3.0
"""A client that waits for so long for any answer is doubted: is it the broker that is away?"""

GRACE_S: Final = 1.0
"""A broker that is back is found by a living client within the time limit of a request and this."""


class SupervisedProducer:
    """Appends records with acks=all. Only sends that await one another are written in their order.

    Holds at most `MAX_UNACKED_BYTES` and `MAX_UNACKED_SENDS` that wait for an acknowledgement; beyond that
    sends fail at once.

    Args:
        settings: where the broker is, and time limits.
        linger_ms: how long a record waits for others to share its request, which saves both ends work; for
            records that nobody waits for.
        idempotent: whether an outage leaves one copy of each record. Without it a topic that refuses its
            records does not cost the client: for topics whose limits others set.
    """

    def __init__(self, settings: KafkaSettings, *, linger_ms: int = 0, idempotent: bool = True) -> None:
        self._settings = settings
        self._linger_ms = linger_ms
        self._idempotent = idempotent
        self._send_timeout_s = settings.send_timeout_ms / 1000
        self._limits = {topic_name(settings, spec.topic): spec.max_bytes for spec in topic_table(settings)}
        self._names = {topic: topic_name(settings, topic) for topic in Topic}
        self._client: ProducerClient | None = None
        self._unclosed: set[ProducerClient] = set()
        self._supervisor: asyncio.Task[None] | None = None
        self._unacked_bytes = 0
        self._unacked_sends = 0

    @property
    def ready(self) -> bool:
        """Whether it is connected, and its client has not failed."""
        return self._client is not None and self._client.failure is None

    async def start(self) -> None:
        """Connect.

        Raises:
            LogUnavailable: no broker answered.
        """
        self._client = await self._connect()
        self._supervisor = asyncio.create_task(self._supervise(self._client), name="producer-supervisor")
        self._supervisor.add_done_callback(self._release)

    async def prepare(self, *topics: Topic) -> None:
        """Learn where `topics` lie, so that the first send to them takes no longer than the next ones.

        One that is missing is left to its first send.

        Raises:
            LogUnavailable: the broker does not tell.
        """
        client = await self._usable()
        for topic in topics:
            await client.partitions(self._names[topic])

    async def stop(self) -> None:
        """Flush and disconnect, within a few seconds even when the broker is away."""
        client, self._client = self._client, None
        if self._supervisor is not None:
            self._supervisor.cancel()
            await asyncio.wait([self._supervisor])
        if client is not None:
            client.replaced.set()
        await asyncio.gather(*(each.close() for each in self._unclosed))
        self._unclosed.clear()

    async def send(self, record: OutgoingRecord, *, timeout_ms: int | None = None) -> Position:
        """Append one record and wait for the acknowledgement of all in-sync replicas.

        Raises:
            SendUnknown: no acknowledgement within `timeout_ms` (default: the setting).
            LogUnavailable: it was not sent.
            SendRefused: it can never be sent; `RecordTooLarge` if that is why.
        """
        timeout_s = timeout_ms / 1000 if timeout_ms else self._send_timeout_s
        queued = None
        name, size = self._take_room(record)
        try:
            async with asyncio.timeout(timeout_s):
                queued = await self._enqueue(name, record)
                return await queued
        except TimeoutError:
            problem = f"no acknowledgement from {name} within {timeout_s:.1f} s"
            raise (SendUnknown if queued else LogUnavailable)(problem) from None
        finally:
            self._count(-1, -size)

    async def append(self, record: OutgoingRecord) -> Position:
        """Append one record, trying until it is acknowledged: for work whose effect must be recorded.

        Ends early only by cancellation. It is queued again only after the client that held it has failed or
        was closed: then it may be written twice.

        Raises:
            SendRefused: it can never be written.
        """
        for wait_s in backoff_s():
            try:
                return await self._append(record)
            except (SendUnknown, LogUnavailable, TimeoutError) as error:
                metrics.SEND_RETRIES.inc()
                log.warning("log.append_retried", topic=str(record.topic), error=str(error) or repr(error))
                await asyncio.sleep(wait_s)
        raise AssertionError("back-off is endless")

    async def _append(self, record: OutgoingRecord) -> Position:
        name, size = self._take_room(record)
        try:
            async with asyncio.timeout(self._send_timeout_s):
                queued = await self._enqueue(name, record)
            return await queued
        finally:
            self._count(-1, -size)

    def _take_room(self, record: OutgoingRecord) -> tuple[str, int]:
        """Count `record` as unacknowledged; gives the full name of its topic, and its size."""
        name = self._names[record.topic] if isinstance(record.topic, Topic) else record.topic
        size = _size(record)
        if size + BATCH_OVERHEAD_BYTES > self._limits.get(name, size + BATCH_OVERHEAD_BYTES):
            raise RecordTooLarge(f"{size} bytes do not fit {name}, which takes {self._limits[name]}")
        if self._unacked_bytes + size > MAX_UNACKED_BYTES or self._unacked_sends >= MAX_UNACKED_SENDS:
            raise LogUnavailable(
                f"{self._unacked_sends} records of {self._unacked_bytes} bytes wait for acknowledgements"
            )
        self._count(1, size)
        return name, size

    def _count(self, sends: int, size: int) -> None:
        self._unacked_sends += sends
        self._unacked_bytes += size
        metrics.UNACKED_BYTES.set(self._unacked_bytes)

    async def _enqueue(self, name: str, record: OutgoingRecord) -> Awaitable[Position]:
        """Queue `record`; what is raised before the result is awaited means that it is not sent."""
        while True:
            client = await self._usable()
            try:
                return await client.enqueue(name, record)
            except LogUnavailable:
                if client is self._client:
                    raise

    async def _usable(self) -> ProducerClient:
        """The present client; one that has failed is waited for to be replaced."""
        while True:
            client = self._client
            if client is None:
                raise LogUnavailable("the producer is not connected")
            if client.failure is None:
                return client
            if self._supervisor is not None and self._supervisor.done():
                self._supervisor.result()  # a bug in it ends whoever needs the log
            await client.replaced.wait()

    def _release(self, _: asyncio.Task[None]) -> None:
        """Nobody replaces the client any more: have who waits for that find out."""
        if self._client is not None:
            self._client.replaced.set()

    async def _supervise(self, client: ProducerClient) -> None:
        while True:
            await client.until_failed(LOOK_INTERVAL_S)
            if client.failure is None and await self._ignores(client):
                client.fail(SILENCE)
            if client.failure is not None:
                client = await self._replace(client, client.failure)

    async def _ignores(self, client: ProducerClient) -> bool:
        """Whether the broker answers others and goes on answering nothing to `client`, which waits for it."""
        if client.silent_s() < SILENCE_S:
            return False
        log.warning("log.no_answer", silent_s=round(client.silent_s(), 1))
        try:
            await self._close(await self._connect())
        except LogUnavailable:
            return False
        patience_s = self._send_timeout_s + GRACE_S
        await client.until_failed(patience_s)
        return client.silent_s() >= patience_s

    async def _replace(self, old: ProducerClient, reason: str) -> ProducerClient:
        log.warning("log.producer_replaced", reason=reason)
        metrics.CLIENTS_REPLACED.labels("producer", reason).inc()
        self._client = await self._reconnect()
        old.replaced.set()
        await self._close(old)
        return self._client

    async def _reconnect(self) -> ProducerClient:
        for wait_s in backoff_s(cap_s=2.0):
            try:
                return await self._connect()
            except LogUnavailable as error:
                log.warning("log.producer_not_replaced_yet", error=str(error))
                await asyncio.sleep(wait_s)
        raise AssertionError("back-off is endless")

    async def _connect(self) -> ProducerClient:
        client = ProducerClient(self._settings, linger_ms=self._linger_ms, idempotent=self._idempotent)
        await client.start()
        self._unclosed.add(client)
        return client

    async def _close(self, client: ProducerClient) -> None:
        await client.close()
        self._unclosed.discard(client)


def _size(record: OutgoingRecord) -> int:
    headers = sum([len(name) + len(value) + HEADER_OVERHEAD_BYTES for name, value in record.headers])
    return len(record.key or b"") + len(record.value or b"") + headers + 1
