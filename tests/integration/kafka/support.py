"""Members as processes, records to feed them, and waiting until something holds."""

import asyncio
import json
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient

from shared.kafka import metrics
from shared.kafka.commit_metadata import CommitMetadata, decode_metadata
from shared.kafka.consumer import PartitionConsumer, Quarantine
from shared.kafka.positions import committed_offsets
from shared.kafka.records import Partition, Record
from shared.kafka.topics import Topic, topic_name
from shared.settings import KafkaSettings, ServiceSettings

PATIENCE_S = 60.0
At = tuple[int, int]


def report(text: str) -> None:
    """A figure for whoever runs the tests with `-s`."""
    sys.stdout.write(f"\n{text}")


async def until(condition: Callable[[], bool | Awaitable[bool]], timeout_s: float = PATIENCE_S) -> None:
    """Wait until `condition` holds; it is looked at every 20 ms."""
    async with asyncio.timeout(timeout_s):
        while True:
            found = condition()
            if await found if isinstance(found, Awaitable) else found:
                return
            await asyncio.sleep(0.02)


def replaced(client: str, reason: str | None = None) -> float:
    """How many clients of that kind this process has replaced; for that reason, if one is given."""
    return sum(
        sample.value
        for metric in metrics.CLIENTS_REPLACED.collect()
        for sample in metric.samples
        if sample.name.endswith("_total")
        and sample.labels["client"] == client
        and reason in (None, sample.labels["reason"])
    )


async def delete_topics(settings: KafkaSettings) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.kafka)
    await admin.start()
    try:
        own = [name for name in await admin.list_topics() if name.startswith(settings.topic_prefix)]
        if own:
            await admin.delete_topics(own)
    finally:
        await admin.close()


@asynccontextmanager
async def plain_producer(settings: KafkaSettings) -> AsyncIterator[AIOKafkaProducer]:
    producer = AIOKafkaProducer(bootstrap_servers=settings.kafka, acks="all", enable_idempotence=True)
    await producer.start()
    try:
        yield producer
    finally:
        await producer.stop()


async def feed(
    settings: KafkaSettings, values: Iterable[bytes], *, topic: Topic = Topic.RESULTS, partition: int = 0
) -> list[At]:
    """Append `values` to one partition; where they lie."""
    async with plain_producer(settings) as producer:
        name = topic_name(settings, topic)
        futures = [await producer.send(name, value=each, key=b"k", partition=partition) for each in values]
        return [(each.partition, each.offset) for each in await asyncio.gather(*futures)]


def todo(**fields: object) -> bytes:
    return json.dumps(fields).encode()


async def commit_of(
    settings: KafkaSettings, number: int, *, group: str = "callback", topic: Topic = Topic.RESULTS
) -> tuple[int, CommitMetadata]:
    """Offset and metadata that the group has committed for a partition."""
    partition = Partition(topic_name(settings, topic), number)
    found = await committed_offsets(settings, f"{settings.topic_prefix}{group}", [partition])
    offset, metadata = found[partition]
    return offset, decode_metadata(offset, metadata)


class Recorder:
    """A handler that runs `work` for each record and keeps the positions of the records."""

    def __init__(self, work: Callable[[Record], Awaitable[None]] | None = None) -> None:
        self.work = work
        self.handled: list[At] = []
        self.assigned: list[frozenset[Partition]] = []
        self.revoked: list[frozenset[Partition]] = []
        self.active: Counter[int] = Counter()
        self.most_active: Counter[int] = Counter()

    async def on_assigned(self, partitions: frozenset[Partition]) -> None:
        self.assigned.append(partitions)

    async def on_revoked(self, partitions: frozenset[Partition]) -> None:
        self.revoked.append(partitions)

    async def handle(self, record: Record) -> None:
        number = record.partition
        self.active[number] += 1
        self.most_active[number] = max(self.most_active[number], self.active[number])
        try:
            if self.work is not None:
                await self.work(record)
        finally:
            self.active[number] -= 1
        self.handled.append((number, record.offset))


@asynccontextmanager
async def consuming(
    settings: ServiceSettings,
    handler: Recorder,
    *,
    window: int = 256,
    group: str = "callback",
    idle_topics: Collection[Topic] = (),
    quarantine: Quarantine | None = None,
) -> AsyncIterator[PartitionConsumer]:
    """A member in this process that reads the results."""
    consumer = PartitionConsumer(
        settings,
        group=group,
        topics=[Topic.RESULTS],
        handler=handler,
        window=window,
        idle_topics=idle_topics,
        quarantine=quarantine,
    )
    running = asyncio.create_task(consumer.run())
    try:
        yield consumer
    finally:
        await consumer.stop()
        await running


@dataclass
class MemberProcess:
    """`member_process` under an instance name, and everything that it said."""

    settings: ServiceSettings
    arguments: tuple[str, ...] = ()
    said: list[dict[str, Any]] = field(default_factory=list)
    process: asyncio.subprocess.Process | None = None
    reading: asyncio.Task[None] | None = None

    async def start(self) -> None:
        environment = {
            **os.environ,
            "CONSUMA_KAFKA": self.settings.kafka,
            "CONSUMA_TOPIC_PREFIX": self.settings.topic_prefix,
            "CONSUMA_INSTANCE": self.settings.instance,
            "CONSUMA_PARTITIONS": str(self.settings.partitions),
            "CONSUMA_SESSION_TIMEOUT_MS": str(self.settings.session_timeout_ms),
            "CONSUMA_DRAIN_TIMEOUT_MS": str(self.settings.drain_timeout_ms),
            "CONSUMA_LOG_LEVEL": "warning",
        }
        self.process = await asyncio.create_subprocess_exec(
            sys.executable,
            str(Path(__file__).with_name("member_process.py")),
            *self.arguments,
            stdout=asyncio.subprocess.PIPE,
            env=environment,
        )
        self.reading = asyncio.create_task(self._read(self.process.stdout))

    async def _read(self, stream: asyncio.StreamReader | None) -> None:
        assert stream is not None
        async for line in stream:
            if line.startswith(b'{"event": ') and line.endswith(b"}\n"):
                self.said.append({**json.loads(line), "heard": time.monotonic()})

    def events(self, event: str) -> list[dict[str, Any]]:
        return [each for each in self.said if each["event"] == event]

    def at(self, event: str) -> list[At]:
        return [(each["at"][0], each["at"][1]) for each in self.events(event)]

    async def until_ready(self) -> None:
        await until(lambda: bool(self.events("ready")))

    async def kill(self) -> None:
        await self._end(signal.SIGKILL)

    async def stop(self) -> None:
        await self._end(signal.SIGTERM)

    async def ended(self) -> int:
        """Wait for the process to end by itself; its exit code."""
        assert self.process is not None
        assert self.reading is not None
        async with asyncio.timeout(PATIENCE_S):
            code = await self.process.wait()
            await self.reading
        return code

    async def _end(self, number: signal.Signals) -> None:
        if self.process is not None and self.process.returncode is None:
            self.process.send_signal(number)
            await self.ended()


@asynccontextmanager
async def members(
    settings: ServiceSettings, count: int, *arguments: str
) -> AsyncIterator[list[MemberProcess]]:
    """`count` members, not started; whoever still runs at the end is killed."""
    made = [
        MemberProcess(settings.model_copy(update={"instance": f"member-{number}"}), arguments)
        for number in range(count)
    ]
    try:
        yield made
    finally:
        for each in made:
            await each.kill()
