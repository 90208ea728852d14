"""A projector beside the test, records to feed it, and waiting until it has them."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from services.projector.handlers import Projector
from services.projector.settings import ProjectorSettings
from shared.db.database import open_database
from shared.db.queries import RequestQueries
from shared.kafka.records import Partition, Record
from tests.support.log_builder import PREFIX

PATIENCE_S = 60.0


def report(text: str) -> None:
    """A figure for whoever runs the tests with `-s`."""
    sys.stdout.write(f"\n{text}")


async def until(condition: Callable[[], bool | Awaitable[bool]], timeout_s: float = PATIENCE_S) -> None:
    async with asyncio.timeout(timeout_s):
        while True:
            found = condition()
            if await found if isinstance(found, Awaitable) else found:
                return
            await asyncio.sleep(0.02)


@asynccontextmanager
async def producing(
    settings: ProjectorSettings, transactional_id: str | None = None
) -> AsyncIterator[AIOKafkaProducer]:
    producer = AIOKafkaProducer(
        bootstrap_servers=settings.kafka,
        acks="all",
        max_request_size=6_000_000,
        transactional_id=transactional_id,
        transaction_timeout_ms=10_000,
    )
    try:
        await producer.start()
        yield producer
    finally:
        await producer.stop()


async def feed(settings: ProjectorSettings, records: Sequence[Record]) -> None:
    """Append records of a built log to the same partitions under the settings' prefix."""
    async with producing(settings) as producer:
        futures = [
            await producer.send(
                record.topic.replace(PREFIX, settings.topic_prefix, 1),
                value=record.value,
                key=record.key,
                partition=record.partition,
                headers=list(record.headers),
            )
            for record in records
        ]
        await asyncio.gather(*futures)


async def ends(settings: ProjectorSettings, partitions: Sequence[Partition]) -> dict[Partition, int]:
    client = AIOKafkaConsumer(bootstrap_servers=settings.kafka, isolation_level="read_committed")
    await client.start()
    try:
        found = await client.end_offsets([TopicPartition(*each) for each in partitions])
    finally:
        await client.stop()
    return {Partition(*source): offset for source, offset in found.items()}


async def positions(settings: ProjectorSettings) -> dict[Partition, int]:
    async with open_database(settings) as database:
        found = await RequestQueries(database, settings).projection_positions()
    return {each: offset for each, offset in found.items() if each.topic.startswith(settings.topic_prefix)}


async def until_projected(settings: ProjectorSettings, *, but: frozenset[Partition] = frozenset()) -> None:
    """Wait until every partition's stored position is the end of its log."""

    async def projected() -> bool:
        stored = await positions(settings)
        if not stored:
            return False
        wanted = await ends(settings, list(stored))
        return all(stored[each] == wanted[each] for each in stored.keys() - but)

    await until(projected)


@asynccontextmanager
async def running(settings: ProjectorSettings) -> AsyncIterator[Projector]:
    """A projector in this process."""
    stop = asyncio.Event()
    projector = Projector(settings)
    task = asyncio.create_task(projector.run(stop))
    try:
        yield projector
    finally:
        stop.set()
        async with asyncio.timeout(PATIENCE_S):
            await task


@asynccontextmanager
async def process(settings: ProjectorSettings) -> AsyncIterator[asyncio.subprocess.Process]:
    """A projector as its own process; killed at the end if it still runs."""
    environment = {
        **os.environ,
        "CONSUMA_KAFKA": settings.kafka,
        "CONSUMA_TOPIC_PREFIX": settings.topic_prefix,
        "CONSUMA_INSTANCE": settings.instance,
        "CONSUMA_PARTITIONS": str(settings.partitions),
        "CONSUMA_MYSQL": settings.mysql.get_secret_value(),
        "CONSUMA_WRITE_TIMEOUT_MS": str(settings.write_timeout_ms),
        "CONSUMA_BATCH_RECORDS": str(settings.batch_records),
    }
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "services.projector", env=environment, stdout=asyncio.subprocess.DEVNULL
    )
    try:
        yield child
    finally:
        if child.returncode is None:
            child.kill()
        await child.wait()
