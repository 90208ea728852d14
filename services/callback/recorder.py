"""Writes down what came of deliveries: retries and dead letters first, then the facts, each acknowledged."""

import asyncio
from typing import Final
from uuid import uuid4

import structlog

from services.callback import metrics
from services.callback.delay_queue import wall_clock_ms
from shared.domain.callbacks import CallbackEvent, Delivery, DeliveryDeadLettered
from shared.domain.delay import pick_tier
from shared.events.codec import Event, Origin, encode
from shared.kafka.backoff import backoff_s
from shared.kafka.producer import SendRefused, SupervisedProducer
from shared.kafka.records import OutgoingRecord
from shared.kafka.topics import TIER_DELAY_MS, Topic

__all__ = ["Recorder"]

log = structlog.get_logger()

SOURCE: Final = "/consuma/callback"
LONGEST_WAIT_S: Final = 30.0
"""Between two tries of what the log refuses."""

_TIER_OF_DELAY: Final = {delay_ms: topic for topic, delay_ms in TIER_DELAY_MS.items()}


class Recorder:
    """Appends events until they are acknowledged, however long the log is away.

    A repeat may write one twice; readers know it by its attempt.
    """

    def __init__(self, producer: SupervisedProducer) -> None:
        self._producer = producer

    async def postpone(self, delivery: Delivery, traceparent: str | None) -> Topic:
        """Append `delivery` to the tier that fits what is left until it is due; returns the tier."""
        remainder_ms = delivery.not_before_ms - wall_clock_ms()
        tier = _TIER_OF_DELAY[pick_tier(_TIER_OF_DELAY, remainder_ms)]
        await self._append(tier, delivery, traceparent)
        return tier

    async def bury(self, letter: DeliveryDeadLettered, traceparent: str | None) -> None:
        """Append `letter` to the dead-letter queue."""
        await self._append(Topic.CALLBACKS_DLQ, letter, traceparent)
        metrics.LETTERS.labels(letter.reason).inc()

    async def state(self, fact: CallbackEvent, traceparent: str | None) -> None:
        """Append a fact."""
        await self._append(Topic.CALLBACKS, fact, traceparent)

    async def _append(self, topic: Topic, event: Event, traceparent: str | None) -> None:
        origin = Origin(event_id=str(uuid4()), source=SOURCE, now_ms=wall_clock_ms(), traceparent=traceparent)
        encoded = encode(event, origin)
        await self._until_written(
            OutgoingRecord(topic=topic, key=encoded.key, value=encoded.value, headers=encoded.headers)
        )

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
