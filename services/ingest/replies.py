"""The answers that sync callers wait for.

Each process follows one partition of `replies`, of its own choice and without a group, and names it in what
it submits. Several processes may choose the same one: whoever does not know a correlation id ignores it.
"""

import asyncio
import itertools
import random
import secrets
from collections.abc import Iterator
from contextlib import contextmanager

import structlog
from aiokafka.errors import KafkaError

from services.ingest import metrics
from services.ingest.problems import LogUnavailable, Overloaded
from services.ingest.settings import IngestSettings
from shared.domain.requests import RequestFailed, RequestSucceeded
from shared.events.codec import MalformedEventError, UnknownEventError, decode
from shared.events.submission import ReplyTo
from shared.kafka.backoff import backoff_s
from shared.kafka.reader import Follower
from shared.kafka.records import Record
from shared.kafka.topics import Topic, topic_name

__all__ = ["Outcome", "PendingReply", "Replies"]

log = structlog.get_logger()

Outcome = RequestSucceeded | RequestFailed


class PendingReply:
    """One caller's wait; `reply_to` goes into the request's record."""

    def __init__(self, reply_to: ReplyTo) -> None:
        self.reply_to = reply_to
        self._future: asyncio.Future[Outcome | None] = asyncio.get_running_loop().create_future()

    async def outcome(self, wait_s: float) -> Outcome | None:
        """The outcome, or None when it is not there after `wait_s` or the process is stopping."""
        done, _ = await asyncio.wait([self._future], timeout=wait_s)
        return self._future.result() if done else None

    def settle(self, outcome: Outcome | None) -> None:
        """End the wait."""
        if not self._future.done():
            self._future.set_result(outcome)


class Replies:
    """Waiting callers by correlation id, and the listener that ends their waits."""

    def __init__(self, settings: IngestSettings) -> None:
        self._settings = settings
        self._topic = topic_name(settings, Topic.REPLIES)
        self._waiting: dict[bytes, PendingReply] = {}
        self._nonce = secrets.token_hex(8)
        self._numbers = itertools.count()
        self._partition: int | None = None
        self._follower: Follower | None = None
        self._stopping = False

    @property
    def ready(self) -> bool:
        """Whether whatever is answered from now on will be heard."""
        return self._partition is not None and self._follower is not None and self._follower.live

    @contextmanager
    def expect(self) -> Iterator[PendingReply]:
        """A wait that is known to the listener; to be entered before the request is sent.

        Raises:
            LogUnavailable: replies cannot be heard yet.
            Overloaded: too many callers wait already.
        """
        if self._partition is None:
            raise LogUnavailable("replies from Kafka cannot be heard yet; nothing was accepted")
        if len(self._waiting) >= self._settings.max_waiting:
            raise Overloaded(f"{len(self._waiting)} callers wait for outcomes; nothing was accepted")
        correlation_id = f"{self._nonce}-{next(self._numbers)}".encode()
        pending = PendingReply(
            ReplyTo(topic=self._topic, partition=self._partition, correlation_id=correlation_id)
        )
        if self._stopping:
            pending.settle(None)
        self._waiting[correlation_id] = pending
        metrics.WAITING.inc()
        try:
            yield pending
        finally:
            del self._waiting[correlation_id]
            metrics.WAITING.dec()

    def release(self) -> None:
        """The process is stopping: nobody waits any longer."""
        self._stopping = True
        for pending in self._waiting.values():
            pending.settle(None)

    async def listen(self) -> None:
        """Hear replies for ever; waits for the broker as long as it is away."""
        partition = random.randrange(self._settings.partitions)  # noqa: S311 - spreads load, hides no secret
        for wait_s in backoff_s(cap_s=2.0):
            try:
                async with Follower(self._settings, self._topic, partitions=[partition], tail=0) as follower:
                    await self._hear(follower, partition)
            except (KafkaError, OSError) as error:
                log.warning("replies.not_connected", partition=partition, error=repr(error))
            finally:
                self._partition = self._follower = None
            await asyncio.sleep(wait_s)

    async def _hear(self, follower: Follower, partition: int) -> None:
        self._partition, self._follower = partition, follower
        log.info("replies.listening", topic=self._topic, partition=partition)
        async for records in follower.records():
            for record in records:
                self.take(record)

    def take(self, record: Record) -> None:
        """End the wait that `record` answers, if it is one of this process."""
        pending = self._waiting.get(record.header("correlation-id") or b"")
        if pending is None:
            return
        try:
            _, event = decode(record.headers, record.value)
        except (MalformedEventError, UnknownEventError) as error:
            log.warning("reply.unreadable", record=record.position, error=str(error))
            return
        if isinstance(event, Outcome):
            pending.settle(event)
        else:
            log.warning("reply.unreadable", record=record.position, error=f"is {type(event).__name__}")
