"""How far a member is behind, in records and in time, for the metrics."""

import asyncio
import time
from collections.abc import Callable, Iterable
from typing import Final

import structlog
from aiokafka.errors import KafkaError

from shared.kafka import metrics
from shared.kafka.group_client import GroupClient
from shared.kafka.partition import PartitionProcessor

__all__ = ["watch_lag"]

log = structlog.get_logger()

INTERVAL_S: Final = 5.0


async def watch_lag(client: GroupClient, current: Callable[[], Iterable[PartitionProcessor]]) -> None:
    """Keep lag and age of the partitions in `current` up to date, for ever."""
    while True:
        await asyncio.sleep(INTERVAL_S)
        opened = [each.partition for each in current() if each.ready]
        try:
            ends = await client.ends(opened)
        except KafkaError as error:
            log.debug("consumer.lag_unknown", error=repr(error))
            ends = {}
        for processor in current():  # those that were lost while the broker answered have no gauge any more
            if processor.ready:
                _show(processor, ends.get(processor.partition))


def _show(processor: PartitionProcessor, end: int | None) -> None:
    labels = (processor.partition.topic, processor.partition.number)
    if end is not None:
        metrics.LAG.labels(*labels).set(max(end - processor.committable, 0))
    oldest_ms = processor.oldest_ms
    metrics.OLDEST_AGE.labels(*labels).set(
        0 if oldest_ms is None else max(time.time() - oldest_ms / 1000, 0.0)
    )
