"""Answers to submitters that wait for them: sent after the outcome is durable, and never waited for."""

import asyncio
import re
from dataclasses import dataclass
from typing import Final

import structlog

from services.compute import metrics
from services.compute.settings import ComputeSettings
from shared.events.codec import EncodedEvent
from shared.events.submission import ReplyTo
from shared.kafka.producer import LogError, SendRefused, SupervisedProducer
from shared.kafka.records import OutgoingRecord
from shared.kafka.topics import Topic, topic_name

__all__ = ["Replies", "ReplyPolicy"]

log = structlog.get_logger()

_LEGAL_NAME: Final = re.compile(r"[a-zA-Z0-9._-]{1,249}")


@dataclass(frozen=True, slots=True)
class ReplyPolicy:
    """Where an answer may go: else a submitter could have us write into any topic, our own ones too.

    Args:
        own: full name of the topic that the HTTP API hears; only with a partition.
        prefix: what the name of a producer's own topic starts with.
        forbidden: full names of all of consuma's topics.
    """

    own: str
    prefix: str
    forbidden: frozenset[str]

    @classmethod
    def of(cls, settings: ComputeSettings) -> "ReplyPolicy":
        """The policy that `settings` express."""
        return cls(
            own=topic_name(settings, Topic.REPLIES),
            prefix=f"{settings.topic_prefix}{settings.reply_topics}",
            forbidden=frozenset(topic_name(settings, topic) for topic in Topic),
        )

    def allows(self, reply_to: ReplyTo) -> bool:
        """Whether an answer may be sent there."""
        if reply_to.topic == self.own:
            return reply_to.partition is not None
        return (
            reply_to.topic.startswith(self.prefix)
            and reply_to.topic not in self.forbidden
            and _LEGAL_NAME.fullmatch(reply_to.topic) is not None
        )


class Replies:
    """Sends answers: so many at a time to callers of the API, and as many to topics of others.

    Args:
        settings: limits and the policy.
        own: appends to the topic that the HTTP API hears.
        foreign: appends to topics of others, whose faults must not touch what `own` is used for. Not
            idempotent: a topic that refuses its records would cost all of them the client each time.
    """

    def __init__(
        self, settings: ComputeSettings, *, own: SupervisedProducer, foreign: SupervisedProducer
    ) -> None:
        self._policy = ReplyPolicy.of(settings)
        self._own = _Outlet(own, settings)
        self._foreign = _Outlet(foreign, settings)

    def send(self, reply_to: ReplyTo | None, outcome: EncodedEvent) -> None:
        """Send `outcome` to who waits for it, if anybody does; returns at once."""
        if reply_to is None:
            return
        if not self._policy.allows(reply_to):
            _note("forbidden", reply_to.topic)
            return
        record = OutgoingRecord(
            topic=reply_to.topic,
            key=outcome.key,
            value=outcome.value,
            headers=(*outcome.headers, ("correlation-id", reply_to.correlation_id)),
            partition=reply_to.partition,
        )
        (self._own if reply_to.topic == self._policy.own else self._foreign).send(record)

    async def drain(self) -> None:
        """Wait until what is being sent has ended; each reply has its own time limit."""
        await asyncio.gather(self._own.drain(), self._foreign.drain())


class _Outlet:
    """Sends replies over one producer, a bounded number at a time; beyond it they are dropped."""

    def __init__(self, producer: SupervisedProducer, settings: ComputeSettings) -> None:
        self._producer = producer
        self._most = settings.replies_in_flight
        self._timeout_ms = settings.reply_timeout_ms
        self._sending: set[asyncio.Task[None]] = set()

    def send(self, record: OutgoingRecord) -> None:
        if len(self._sending) >= self._most:
            _note("dropped", record.topic)
            return
        task = asyncio.create_task(self._send(record))
        self._sending.add(task)
        task.add_done_callback(self._sent)

    async def drain(self) -> None:
        if self._sending:
            await asyncio.wait(self._sending)

    async def _send(self, record: OutgoingRecord) -> None:
        try:
            await self._producer.send(record, timeout_ms=self._timeout_ms)
        except SendRefused as error:
            _note("refused", record.topic, str(error))
        except LogError as error:
            _note("lost", record.topic, str(error))
        else:
            metrics.REPLIES.labels("sent").inc()

    def _sent(self, task: asyncio.Task[None]) -> None:
        self._sending.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("reply.failed", exc_info=error)


def _note(outcome: str, topic: str, error: str = "") -> None:
    """The result stands in the log of results; that it was not sent as well is counted."""
    metrics.REPLIES.labels(outcome).inc()
    log.info("reply.not_sent", outcome=outcome, topic=topic[:256], error=error)
