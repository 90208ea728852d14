"""What the compute service writes into the log: outcomes, announcements, dead letters."""

import asyncio
import itertools
import secrets
import time
from collections.abc import Callable
from typing import Final

import structlog

from services.compute import metrics
from shared.domain.execution import fail
from shared.domain.requests import (
    Failure,
    FailureCode,
    RequestDeadLettered,
    RequestFailed,
    RequestStarted,
    RequestSubmitted,
    RequestSucceeded,
)
from shared.domain.types import Mode, RequestId
from shared.events.codec import EncodedEvent, Event, Origin, encode
from shared.kafka.producer import LogError, RecordTooLarge, SendUnknown, SupervisedProducer
from shared.kafka.records import OutgoingRecord
from shared.kafka.topics import Topic

__all__ = ["COMPUTE_SOURCE", "Journal", "now_ms"]

log = structlog.get_logger()

COMPUTE_SOURCE: Final = "/consuma/compute"

MAX_UNWRITTEN_BYTES: Final = 64 * 1024 * 1024
"""Of outcomes that wait for the log; beyond it no request is begun."""


MOST_LATE_ANNOUNCEMENTS: Final = 10_000
"""As many as a producer has unacknowledged sends at most."""


class Journal:
    """Writes events; what must not be lost is tried until it is acknowledged.

    Args:
        urgent: for requests whose submitters wait, and for the others while there are few.
        bulk: for the others while they queue: the client library has one request under way to a broker at a
            time, so that what they write would hold up who waits.
        crowded: whether they queue now.
    """

    def __init__(
        self, *, urgent: SupervisedProducer, bulk: SupervisedProducer, crowded: Callable[[], bool]
    ) -> None:
        self._urgent = urgent
        self._bulk = bulk
        self._crowded = crowded
        self._late: dict[RequestId, SupervisedProducer] = {}
        """Where announcements wait of which nobody knows whether they are written: outcomes queue behind."""

        self._unwritten_bytes = 0
        self._has_room = asyncio.Event()
        self._has_room.set()
        self._nonce = secrets.token_hex(8)
        self._numbers = itertools.count(1)

    async def until_room(self) -> None:
        """Wait until outcomes are being written at least as fast as they are produced."""
        await self._has_room.wait()

    async def outcome(
        self, request: RequestSubmitted, outcome: RequestSucceeded | RequestFailed, traceparent: str | None
    ) -> EncodedEvent:
        """Write the outcome of `request`, and return it as written, once it is durable.

        One that does not fit the log, with all that its submitter put around it, becomes a failure that does.
        """
        producer = self._late.get(request.request_id) or self._producer(outcome.mode)
        try:
            encoded = await self._append(producer, Topic.RESULTS, outcome, traceparent)
        except RecordTooLarge as error:
            failure = Failure(code=FailureCode.RESULT_TOO_LARGE, message=str(error))
            outcome = fail(request, failure, attempts=outcome.attempts, now_ms=now_ms())
            encoded = await self._append(producer, Topic.RESULTS, outcome, traceparent)
        self._late.pop(request.request_id, None)
        _tell(outcome)
        return encoded

    async def started(self, event: RequestStarted, traceparent: str | None) -> None:
        """Announce a run that takes a while; only told, so it is not tried again.

        One without an acknowledgement may still be written, but not behind the outcome, which then goes over
        the same producer.
        """
        encoded = encode(event, self._origin(traceparent))
        producer = self._late.pop(event.request_id, None) or self._producer(event.mode)
        self._late[event.request_id] = producer
        if len(self._late) > MOST_LATE_ANNOUNCEMENTS:
            del self._late[next(iter(self._late))]
        try:
            await producer.send(_record(Topic.RESULTS, encoded))
            self._late.pop(event.request_id, None)
        except LogError as error:
            if not isinstance(error, SendUnknown):
                self._late.pop(event.request_id, None)
            metrics.STARTED_EVENTS_LOST.inc()
            log.warning("request.started_event_lost", request=event.request_id, error=str(error))

    async def dead_letter(self, letter: RequestDeadLettered, traceparent: str | None = None) -> None:
        """Set a record aside; durable on return."""
        await self._append(self._producer(Mode.ASYNC), Topic.REQUESTS_DLQ, letter, traceparent)
        metrics.DEAD_LETTERS.labels(letter.reason).inc()
        log.warning(
            "request.dead_lettered",
            request=letter.request_id,
            origin=letter.origin,
            reason=letter.reason,
            message=letter.message,
            attempts=letter.attempts,
        )

    def _origin(self, traceparent: str | None) -> Origin:
        """Of the next event; drawing a random id for each would cost more than writing it."""
        event_id = f"{self._nonce}-{next(self._numbers)}"
        return Origin(event_id=event_id, source=COMPUTE_SOURCE, now_ms=now_ms(), traceparent=traceparent)

    async def _append(
        self, producer: SupervisedProducer, topic: Topic, event: Event, traceparent: str | None
    ) -> EncodedEvent:
        encoded = encode(event, self._origin(traceparent))
        self._reserve(len(encoded.value))
        try:
            await producer.append(_record(topic, encoded))
        finally:
            self._reserve(-len(encoded.value))
        return encoded

    def _producer(self, mode: Mode) -> SupervisedProducer:
        return self._bulk if mode is Mode.ASYNC and self._crowded() else self._urgent

    def _reserve(self, size: int) -> None:
        self._unwritten_bytes += size
        if self._unwritten_bytes > MAX_UNWRITTEN_BYTES:
            self._has_room.clear()
        else:
            self._has_room.set()


def _tell(outcome: RequestSucceeded | RequestFailed) -> None:
    """Count an outcome, and log it: a failure always, a success for who looks for it."""
    error = outcome.error if isinstance(outcome, RequestFailed) else None
    metrics.OUTCOMES.labels(outcome.mode, error.code if error else "succeeded").inc()
    if outcome.attempts:
        metrics.QUEUE_SECONDS.labels(outcome.mode).observe(outcome.queue_ms / 1000)
        metrics.COMPUTE_SECONDS.labels(outcome.operation).observe(outcome.compute_ms / 1000)
    (log.info if error else log.debug)(
        "request.finished",
        request=outcome.request_id,
        mode=outcome.mode,
        operation=outcome.operation,
        source=outcome.source,
        code=error.code if error else "succeeded",
        error=error.message if error else None,
        attempts=outcome.attempts,
        queue_ms=outcome.queue_ms,
        compute_ms=outcome.compute_ms,
        age_ms=outcome.finished_at_ms - outcome.accepted_at_ms,
    )


def now_ms() -> int:
    """The time, in ms since the epoch."""
    return time.time_ns() // 1_000_000


def _record(topic: Topic, encoded: EncodedEvent) -> OutgoingRecord:
    return OutgoingRecord(topic=topic, key=encoded.key, value=encoded.value, headers=encoded.headers)
