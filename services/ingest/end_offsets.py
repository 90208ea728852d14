"""Where logs end, for read-your-writes."""

import asyncio
import time
from collections.abc import Mapping
from typing import Final

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition

from shared.kafka.ending import end_bounded, own_cancellations_only, prepare_library
from shared.kafka.library_tasks import dead_task_of
from shared.kafka.metrics import CLIENTS_REPLACED
from shared.kafka.records import Partition
from shared.settings import KafkaSettings

__all__ = ["EndOffsets"]

log = structlog.get_logger()

REQUEST_TIMEOUT_MS: Final = 5_000
CLOSE_TIMEOUT_S: Final = 2.0


class EndOffsets:
    """Ends of partitions. An answer is never older than its question.

    Whoever asks while an answer is under way waits for the next one, which all of them share: what was
    acknowledged before the question lies before the answer, and the broker is asked one thing at a time.
    Counts what open transactions hold back from readers, since that has been acknowledged too.

    Uses a client without an assignment: on one that polls, the question waits behind the fetch.
    """

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self._client: AIOKafkaConsumer = None
        self._asking = asyncio.Lock()
        self._answers: dict[frozenset[str], tuple[float, Mapping[Partition, int]]] = {}

    async def start(self) -> None:
        """Connect.

        Raises:
            KafkaError: no broker answered.
        """
        prepare_library()
        client = AIOKafkaConsumer(
            bootstrap_servers=self._settings.kafka,
            isolation_level="read_uncommitted",  # nothing is read with it
            request_timeout_ms=REQUEST_TIMEOUT_MS,
        )
        try:
            with own_cancellations_only():
                await client.start()
        except BaseException:
            await end_bounded(client.stop(), CLOSE_TIMEOUT_S)
            raise
        self._client = client

    async def stop(self) -> None:
        """Disconnect; nothing is to be asked afterwards."""
        client, self._client = self._client, None
        if client is not None:
            await end_bounded(client.stop(), CLOSE_TIMEOUT_S)

    async def of(self, topics: frozenset[str], timeout_s: float) -> Mapping[Partition, int]:
        """End offset of every partition of `topics`, which are keyed by request id.

        Raises:
            KafkaError, TimeoutError: the broker did not answer within `timeout_s`.
        """
        called_at = time.monotonic()
        async with asyncio.timeout(timeout_s), self._asking:
            asked_at, ends = self._answers.get(topics, (0.0, {}))
            if asked_at <= called_at:
                asked_at = time.monotonic()
                ends = await self._ask(topics)
                self._answers[topics] = (asked_at, ends)
            return ends

    async def _ask(self, topics: frozenset[str]) -> Mapping[Partition, int]:
        await self._revive()
        numbers = range(self._settings.partitions)
        sources = [TopicPartition(topic, number) for topic in topics for number in numbers]
        with own_cancellations_only():
            ends = await self._client.end_offsets(sources)
        return {Partition(source.topic, source.partition): offset for source, offset in ends.items()}

    async def _revive(self) -> None:
        """Replace a client that has died."""
        if self._client is not None and (dead := dead_task_of(self._client)) is not None:
            log.error("end_offsets.client_replaced", reason=f"dead_{dead}_task")
            CLIENTS_REPLACED.labels("end_offsets", f"dead_{dead}_task").inc()
            await self.stop()
        if self._client is None:
            await self.start()
