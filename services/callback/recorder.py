"""Writes down what came of deliveries: retries and dead letters first, then the facts, each acknowledged."""

import asyncio
from dataclasses import replace
from typing import Final
from uuid import uuid4

import structlog

from services.callback import metrics
from services.callback.delay_queue import wall_clock_ms
from services.callback.ports import WaitsFor
from services.callback.schedule import waits_for_headers
from shared.domain.callbacks import CallbackEvent, Delivery, DeliveryDeadLettered
from shared.events.codec import Event, Origin, encode
from shared.events.dead_letters import dead_letter_of
from shared.kafka.backoff import backoff_s
from shared.kafka.producer import SendRefused, SupervisedProducer
from shared.kafka.records import OutgoingRecord, Record
from shared.kafka.topics import Topic

__all__ = ["Recorder"]

log = structlog.get_logger()

SOURCE: Final = "/consuma/callback"
UNREADABLE: Final = "unreadable"
"""Reason of the letter of a record that this release cannot read; a newer one may have written it."""

LONGEST_WAIT_S: Final = 30.0
"""Between two tries of what the log refuses."""


class Recorder:
    """Appends events until they are acknowledged, however long the log is away.

    A repeat may write one twice; readers know it by its attempt.
    """

    def __init__(self, producer: SupervisedProducer) -> None:
        self._producer = producer

    async def postpone(
        self, delivery: Delivery, tier: Topic, traceparent: str | None, *, waits_for: WaitsFor | None = None
    ) -> None:
        """Append `delivery` to `tier`; a deferred delivery names its destination in headers."""
        record = _record(tier, delivery, traceparent)
        await self._until_written(replace(record, headers=record.headers + waits_for_headers(waits_for)))

    async def hop(self, record: Record, tier: Topic) -> None:
        """Append what `record` holds to `tier`, byte for byte."""
        await self._until_written(
            OutgoingRecord(topic=tier, key=record.key, value=record.value, headers=record.headers)
        )

    async def bury(self, letter: DeliveryDeadLettered, traceparent: str | None) -> None:
        """Append `letter` to the dead-letter queue."""
        await self._until_written(_record(Topic.CALLBACKS_DLQ, letter, traceparent))
        metrics.LETTERS.labels(letter.reason).inc()

    async def bury_unread(self, record: Record, problem: str) -> None:
        """Append `record` with its bytes to the dead-letter queue of records."""
        letter = dead_letter_of(record, reason=UNREADABLE, message=problem, now_ms=wall_clock_ms())
        await self._until_written(_record(Topic.REQUESTS_DLQ, letter, None))
        metrics.LETTERS.labels(UNREADABLE).inc()

    async def state(self, fact: CallbackEvent, traceparent: str | None) -> None:
        """Append a fact."""
        await self._until_written(_record(Topic.CALLBACKS, fact, traceparent))

    async def _until_written(self, record: OutgoingRecord) -> None:
        """Append `record`, even if the log refuses it until a person has mended what is wrong.

        To fail would have the delivery handled anew: its receiver would be called again and again.
        """
        for wait_s in backoff_s(cap_s=LONGEST_WAIT_S):
            try:
                await self._producer.append(record)
            except SendRefused as error:
                metrics.REFUSED_BY_LOG.labels(record.topic).inc()
                log.critical("callback.refused_by_log", topic=record.topic, error=str(error))
                await asyncio.sleep(wait_s)
            else:
                return
        raise AssertionError("back-off is endless")


def _record(topic: Topic, event: Event, traceparent: str | None) -> OutgoingRecord:
    origin = Origin(event_id=str(uuid4()), source=SOURCE, now_ms=wall_clock_ms(), traceparent=traceparent)
    encoded = encode(event, origin)
    return OutgoingRecord(topic=topic, key=encoded.key, value=encoded.value, headers=encoded.headers)
