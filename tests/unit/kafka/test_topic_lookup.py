"""Which topics exist, asked by many, looked up seldom, and never answered from before the question."""

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from shared.kafka.producer_client import LOOKUP_INTERVAL_S, ProducerClient
from shared.settings import KafkaSettings


class Broker:
    """Stands in for the library's client and what it knows: tells topics, and counts who asks."""

    def __init__(self, *names: str) -> None:
        self.names = set(names)
        self.lookups: list[float] = []
        self.cluster = self

    def partitions_for_topic(self, _: str) -> None:
        """None is known before it was asked for."""

    async def fetch_all_metadata(self) -> "Broker":
        self.lookups.append(time.monotonic())
        await asyncio.sleep(0)
        return self

    def topics(self) -> set[str]:
        return set(self.names)

    async def _wait_on_metadata(self, _: str) -> set[int]:
        return {0}


@pytest.fixture
async def client() -> AsyncIterator[ProducerClient]:
    made = ProducerClient(KafkaSettings())
    library = made._client.client
    yield made
    made._client.client = library
    await made.close()


def answered_by(client: ProducerClient, *names: str) -> Broker:
    broker = Broker(*names)
    client._client.client = broker
    return broker


async def test_a_topic_that_was_created_a_moment_ago_is_known(client: ProducerClient) -> None:
    """A reply to a new topic was dropped when another topic had been looked up shortly before."""
    broker = answered_by(client, "a")
    assert await client.partitions("a")
    assert not await client.partitions("b")
    broker.names.add("b")
    assert await client.partitions("b")


async def test_missing_topics_are_looked_up_seldom_however_many_ask(client: ProducerClient) -> None:
    broker = answered_by(client, "a")
    found = await asyncio.gather(*(client.partitions(f"x{number}") for number in range(500)))
    assert not any(found)
    assert len(broker.lookups) <= 2
    assert await client.partitions("a")
    await client.partitions("y")
    gaps = [later - earlier for earlier, later in zip(broker.lookups, broker.lookups[1:], strict=False)]
    assert all(gap >= LOOKUP_INTERVAL_S * 0.99 for gap in gaps)
