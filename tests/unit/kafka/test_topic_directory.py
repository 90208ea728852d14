"""Which topics exist, asked by many, looked up seldom, and never answered from before the question."""

import asyncio
import time
from typing import cast

from shared.kafka.producer_client import ProducerClient
from shared.kafka.topic_directory import INTERVAL_S, TopicDirectory


class Broker:
    """Stands in for the client: knows topics and counts who asks."""

    def __init__(self, *names: str) -> None:
        self.names = set(names)
        self.lookups: list[float] = []

    async def topics(self) -> frozenset[str]:
        self.lookups.append(time.monotonic())
        await asyncio.sleep(0)
        return frozenset(self.names)


def client(broker: Broker) -> ProducerClient:
    return cast("ProducerClient", broker)


async def test_a_topic_that_was_created_a_moment_ago_is_known() -> None:
    """A reply to a new topic was dropped when another topic had been looked up shortly before."""
    broker, directory = Broker("a"), TopicDirectory()
    assert await directory.knows(client(broker), "a")
    assert not await directory.knows(client(broker), "b")
    broker.names.add("b")
    assert await directory.knows(client(broker), "b")


async def test_missing_topics_are_looked_up_seldom_however_many_ask() -> None:
    broker, directory = Broker("a"), TopicDirectory()
    found = await asyncio.gather(*(directory.knows(client(broker), f"x{number}") for number in range(500)))
    assert not any(found)
    assert len(broker.lookups) <= 2
    assert await directory.knows(client(broker), "a")
    await directory.knows(client(broker), "y")
    gaps = [later - earlier for earlier, later in zip(broker.lookups, broker.lookups[1:], strict=False)]
    assert all(gap >= INTERVAL_S * 0.99 for gap in gaps)
