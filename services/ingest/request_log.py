"""Ingest's side of the log: bounded appends, and where the request topics end."""

import asyncio
from collections.abc import Mapping
from typing import Final

import structlog
from aiokafka.errors import KafkaError

from services.ingest.end_offsets import EndOffsets
from services.ingest.problems import LogUnavailable, Overloaded, SubmissionUnknown
from services.ingest.settings import IngestSettings
from shared.events.codec import EncodedEvent
from shared.kafka import producer
from shared.kafka.backoff import backoff_s
from shared.kafka.producer import SupervisedProducer
from shared.kafka.records import OutgoingRecord, Partition, Position
from shared.kafka.topics import Topic, topic_name

__all__ = ["RequestLog"]

log = structlog.get_logger()

WRITTEN: Final = (Topic.REQUESTS, Topic.REQUESTS_SYNC, Topic.REQUESTS_CANCELLED, Topic.DESTINATIONS)
RECONNECT_CAP_S: Final = 2.0
CONNECT_TIMEOUT_S: Final = 10.0


class RequestLog:
    """Connects by itself, however long the broker is away; until then every use fails at once."""

    def __init__(self, settings: IngestSettings) -> None:
        self._settings = settings
        self._producer = SupervisedProducer(settings)
        self._topics = frozenset(
            topic_name(settings, topic) for topic in (Topic.REQUESTS, Topic.REQUESTS_SYNC)
        )
        self._ends: EndOffsets | None = None
        self._sends = 0
        self._connected = False

    @property
    def ready(self) -> bool:
        """Whether the broker has been reached, and the client that appends has not failed since."""
        return self._connected and self._producer.ready

    async def connect(self) -> None:
        """Connect, trying until it works."""
        for wait_s in backoff_s(cap_s=RECONNECT_CAP_S):
            try:
                await self._connect()
            except (producer.LogUnavailable, KafkaError, TimeoutError, OSError) as error:
                log.warning("request_log.not_connected", error=str(error) or repr(error))
                await asyncio.sleep(wait_s)
            else:
                self._connected = True
                return

    async def stop(self) -> None:
        """Disconnect; bounded."""
        self._connected = False
        await self._producer.stop()
        ends, self._ends = self._ends, None
        if ends is not None:
            await ends.stop()

    async def append(self, topic: Topic, event: EncodedEvent) -> Position:
        """Append `event` and wait for the acknowledgement.

        Raises:
            Overloaded: too many wait for theirs; it was not sent.
            LogUnavailable: it was not sent.
            SubmissionUnknown: no acknowledgement in time; it may be written.
        """
        if self._sends >= self._settings.max_sends:
            raise Overloaded(f"{self._sends} submissions wait for Kafka; nothing was accepted")
        record = OutgoingRecord(topic=topic, key=event.key, value=event.value, headers=event.headers)
        self._sends += 1
        try:
            return await self._producer.send(record, timeout_ms=self._settings.accept_timeout_ms)
        except producer.SendUnknown as error:
            log.warning("request_log.unacknowledged", topic=topic, error=str(error))
            raise SubmissionUnknown(
                "Kafka did not acknowledge in time: the request may still run. "
                "Repeat it with the same Idempotency-Key"
            ) from error
        except producer.LogUnavailable as error:
            log.warning("request_log.away", topic=topic, error=str(error))
            raise LogUnavailable(
                "Kafka does not take requests at the moment; nothing was accepted"
            ) from error
        finally:
            self._sends -= 1

    async def ends(self, timeout_s: float) -> Mapping[Partition, int]:
        """Where every partition of the request topics ends now.

        Raises:
            LogUnavailable: the broker does not tell.
        """
        if self._ends is None:
            raise LogUnavailable("Kafka is not connected, so it cannot be told what was accepted")
        try:
            return await self._ends.of(self._topics, timeout_s)
        except (KafkaError, TimeoutError) as error:
            log.warning("request_log.ends_unknown", error=repr(error))
            raise LogUnavailable("Kafka does not answer, so it cannot be told what was accepted") from error

    async def _connect(self) -> None:
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            await self._producer.start()
        ends = EndOffsets(self._settings)
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                await self._producer.prepare(*WRITTEN)
                await ends.start()
        except BaseException:
            await ends.stop()
            await self._producer.stop()
            raise
        self._ends = ends
