"""How long records of each partition wait for their outcome, while something happens to the system."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

import orjson
from aiokafka import AIOKafkaProducer

from shared.domain.identity import id_of_reference
from shared.events.envelope import read_envelope
from shared.kafka.reader import Follower
from shared.kafka.topics import Topic, topic_name
from shared.settings import KafkaSettings

__all__ = ["worst_delays"]

INTERVAL_S: Final = 0.05
SOURCE: Final = "probe"
LAST_ANSWER_S: Final = 60.0


class _Probe:
    """Outcomes that are waited for, by request id, and the worst delay of each partition so far."""

    def __init__(self) -> None:
        self.worst_s: dict[int, float] = {}
        self.waiting: dict[str, tuple[int, float]] = {}

    def answered(self, request_id: str | None) -> None:
        """An outcome has been read."""
        partition, since_s = self.waiting.pop(request_id or "", (None, 0.0))
        if partition is not None:
            delay_s = time.monotonic() - since_s
            self.worst_s[partition] = max(self.worst_s.get(partition, 0.0), delay_s)


async def worst_delays(
    settings: KafkaSettings, duration_s: float, happening: Callable[[], Awaitable[None]]
) -> Mapping[int, float]:
    """Worst delay in s from append to outcome by partition of `requests`, one record each 50 ms.

    `happening` is awaited once the records flow; records are appended for `duration_s` from then on.

    Raises:
        TimeoutError: outcomes are missing a minute after the last record.
    """
    probe = _Probe()
    topic = topic_name(settings, Topic.RESULTS)
    partitions = range(settings.partitions)
    async with (
        Follower(settings, topic, partitions=partitions, tail=0) as follower,
        asyncio.TaskGroup() as tasks,
    ):
        reading = tasks.create_task(_read(follower, probe))
        await _append(settings, probe, rounds=40)
        event = tasks.create_task(_await(happening))
        await _append(settings, probe, rounds=int(duration_s / INTERVAL_S))
        await event
        async with asyncio.timeout(LAST_ANSWER_S):
            while probe.waiting:  # noqa: ASYNC110 - another task reads
                await asyncio.sleep(INTERVAL_S)
        reading.cancel()
    return probe.worst_s


async def _await(happening: Callable[[], Awaitable[None]]) -> None:
    await happening()


async def _read(follower: Follower, probe: _Probe) -> None:
    async for records in follower.records():
        for record in records:
            envelope = read_envelope(record.headers)
            if envelope is not None and not envelope.type.startswith("consuma.request.started"):
                probe.answered(envelope.subject)


async def _append(settings: KafkaSettings, probe: _Probe, *, rounds: int) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=settings.kafka, acks="all")
    await producer.start()
    topic = topic_name(settings, Topic.REQUESTS)
    try:
        next_s = time.monotonic()
        for _ in range(rounds):
            for partition in range(settings.partitions):
                reference = f"{partition}-{time.monotonic_ns()}"
                value = {"operation": "hash_chain", "input": {"seed": reference}, "source": SOURCE}
                probe.waiting[id_of_reference(SOURCE, reference)] = (partition, time.monotonic())
                record = orjson.dumps({**value, "id": reference})
                await producer.send(topic, record, partition=partition)
            next_s += INTERVAL_S
            await asyncio.sleep(max(0.0, next_s - time.monotonic()))
    finally:
        await producer.stop()
