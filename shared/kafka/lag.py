"""How far a member is behind, for the metrics."""

import asyncio
from collections.abc import Callable, Iterable
from typing import Final

import structlog
from aiokafka.errors import KafkaError

from shared.kafka import metrics
from shared.kafka.group_client import GroupClient
from shared.kafka.partition_run import PartitionRun

__all__ = ["watch_lag"]

log = structlog.get_logger()

INTERVAL_S: Final = 5.0


async def watch_lag(client: GroupClient, runs: Callable[[], Iterable[PartitionRun]]) -> None:
    """Keep the lag of the partitions in `runs` up to date, for ever."""
    while True:
        await asyncio.sleep(INTERVAL_S)
        opened = [run for run in runs() if run.ready]
        try:
            ends = await client.ends([run.partition for run in opened])
        except KafkaError as error:
            log.debug("consumer.lag_unknown", error=repr(error))
            continue
        for run in opened:
            lag = max(ends[run.partition] - run.committable, 0)
            metrics.LAG.labels(run.partition.topic, run.partition.number).set(lag)
