"""Committed offsets of groups, read from the broker."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Final

from aiokafka import OffsetAndMetadata, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from shared.kafka.backoff import backoff_s
from shared.kafka.ending import prepare_library, start_whole
from shared.kafka.records import Partition
from shared.settings import KafkaSettings

__all__ = ["admin_client", "committed_offsets", "fetch_committed"]

ADMIN_TIMEOUT_S: Final = 10.0


@asynccontextmanager
async def admin_client(settings: KafkaSettings) -> AsyncIterator[AIOKafkaAdminClient]:
    """A client for questions about topics and groups, and for changes of them. Has no bound."""
    prepare_library()
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.kafka)
    try:
        await start_whole(admin.start())
        yield admin
    finally:
        await admin.close()


async def committed_offsets(
    settings: KafkaSettings, group: str, partitions: Iterable[Partition]
) -> dict[Partition, tuple[int, str]]:
    """Offset and metadata that `group` has committed for each of `partitions`, where it has.

    Raises:
        KafkaError, TimeoutError: the broker did not answer.
    """
    wanted = [TopicPartition(*each) for each in partitions]
    async with asyncio.timeout(ADMIN_TIMEOUT_S), admin_client(settings) as admin:
        found = await fetch_committed(admin, group, wanted)
    return {
        Partition(source.topic, source.partition): (value.offset, value.metadata or "")
        for source, value in found.items()
        if value.offset >= 0
    }


async def fetch_committed(
    admin: AIOKafkaAdminClient, group: str, wanted: list[TopicPartition]
) -> dict[TopicPartition, OffsetAndMetadata]:
    """What the coordinator of `group` says about each of `wanted`; -1 is none. Has no bound.

    The coordinator is away for a moment after the first use of a broker, and while it moves. While it loads
    what it knows it refuses the whole question, which the client library takes for an answer about nothing.
    """
    for wait_s in backoff_s(cap_s=1.0):
        try:
            found: dict[TopicPartition, OffsetAndMetadata] = await admin.list_consumer_group_offsets(
                group, partitions=wanted
            )
        except KafkaError as error:
            if not error.retriable:
                raise
            await asyncio.sleep(wait_s)
        else:
            if found.keys() >= set(wanted):
                return found
            await asyncio.sleep(wait_s)
    raise AssertionError("back-off is endless")
