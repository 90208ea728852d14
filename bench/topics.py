"""Topics of a benchmark's own."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from aiokafka.admin import AIOKafkaAdminClient

from shared.kafka import topics_admin
from shared.settings import KafkaSettings

__all__ = ["own_topics"]


@contextmanager
def own_topics(settings: KafkaSettings) -> Iterator[None]:
    """Every topic under the settings' prefix, deleted at the end."""
    asyncio.run(topics_admin.apply(settings))
    try:
        yield
    finally:
        asyncio.run(delete_topics(settings))


async def delete_topics(settings: KafkaSettings) -> None:
    """Leave the broker as it was."""
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.kafka)
    await admin.start()
    try:
        own = [name for name in await admin.list_topics() if name.startswith(settings.topic_prefix)]
        await admin.delete_topics(own)
    finally:
        await admin.close()
