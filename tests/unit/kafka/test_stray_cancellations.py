"""A cancellation that the client library lets out ends no task in silence."""

import asyncio
from collections.abc import Iterable
from typing import cast

import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaError

from shared.kafka.consumer import PartitionConsumer
from shared.kafka.ending import own_cancellations_only
from shared.kafka.group_client import GroupClient
from shared.kafka.library_tasks import fetch
from shared.kafka.partition import PartitionProcessor
from shared.kafka.reader import Follower
from shared.kafka.rebalance import Rebalancer
from shared.kafka.records import Partition, Record
from shared.kafka.topics import Topic
from shared.settings import KafkaSettings, ServiceSettings
from tests.support.waiting import until
from tests.unit.kafka.support import processor_of

PARTITION = Partition("t", 0)


class Group:
    """Knows one commit; the first question is cancelled."""

    def __init__(self) -> None:
        self.asked = 0

    async def committed(self, partitions: Iterable[Partition]) -> dict[Partition, tuple[int, str]]:
        self.asked += 1
        if self.asked == 1:
            raise asyncio.CancelledError
        return {each: (7, "") for each in partitions}


class Handler:
    async def on_assigned(self, partitions: frozenset[Partition]) -> None:
        """Nothing to prepare."""

    async def handle(self, record: Record) -> None:
        """Nothing to do."""

    async def on_revoked(self, partitions: frozenset[Partition]) -> None:
        """Nothing to forget."""


async def test_one_from_outside_is_passed_on() -> None:
    async def waiting() -> None:
        with own_cancellations_only():
            await asyncio.Event().wait()

    task = asyncio.create_task(waiting())
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()


async def test_one_of_the_library_is_an_error() -> None:
    with pytest.raises(KafkaError), own_cancellations_only():
        raise asyncio.CancelledError


async def test_a_partition_is_opened_after_one() -> None:
    """Else it would stand still for ever: the task that opens it would be gone, and no error be seen."""
    opened: list[PartitionProcessor] = []
    rebalancer = Rebalancer(cast("GroupClient", Group()), Handler(), None, opened.append)
    async with asyncio.timeout(5), asyncio.TaskGroup() as tasks:
        rebalancer.open([processor_of(PARTITION)], tasks)
    assert [processor.committable for processor in opened] == [7]


async def test_polling_goes_on_after_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """The client is replaced: a member that polls no more would look healthy and do nothing."""
    monkeypatch.setattr("shared.kafka.member.GroupClient", StrayingClient)
    StrayingClient.lives = 0
    consumer = PartitionConsumer(
        ServiceSettings(), group="g", topics=[Topic.REQUESTS], handler=Handler(), window=1
    )
    running = asyncio.create_task(consumer.run())
    await until(lambda: StrayingClient.lives >= 3)
    await consumer.stop()
    await running


class StrayingLibrary:
    async def getmany(self, *_: object, **__: object) -> None:
        raise asyncio.CancelledError


class StrayingClient:
    """Lets a cancellation out with its third poll."""

    generation = 1
    lives = 0

    def __init__(self, *_: object, **__: object) -> None:
        self.polls = 0
        StrayingClient.lives += 1

    async def start(self) -> None: ...

    def subscribe(self) -> None: ...

    def dead_task(self) -> None: ...

    async def poll(self) -> dict[Partition, list[Record]]:
        self.polls += 1
        await asyncio.sleep(0)
        if self.polls == 3:
            await fetch(cast("AIOKafkaConsumer", StrayingLibrary()), timeout_ms=1)
        return {}

    async def ends(self, partitions: Iterable[Partition]) -> dict[Partition, int]:
        return {}

    async def commit(self, offsets: object) -> None: ...

    def position(self, partition: Partition) -> int:
        return 0

    def answered_s(self, partition: Partition) -> float:
        return 0.0

    async def stop(self) -> None: ...


async def test_a_follower_goes_on_after_one(monkeypatch: pytest.MonkeyPatch) -> None:
    follower = Follower(KafkaSettings(), "t", partitions=[0], tail=0)
    follower._client = AIOKafkaConsumer()
    fetches = 0

    async def getmany(**_: object) -> dict[object, list[object]]:
        nonlocal fetches
        fetches += 1
        if fetches == 1:
            raise asyncio.CancelledError
        return {}

    monkeypatch.setattr("shared.kafka.reader.PAUSE_AFTER_ERROR_S", 0.01)
    monkeypatch.setattr(follower._client, "getmany", getmany)
    async with asyncio.timeout(5):
        assert await anext(follower.records()) == []
        await follower.__aexit__(None, None, None)
    assert fetches == 2


async def test_partitions_lost_while_the_member_ends_are_revoked_all_the_same() -> None:
    """The client library swallows an error of its listener, and would keep the handler from hearing."""
    revoked: list[frozenset[Partition]] = []

    class Hearing(Handler):
        async def on_revoked(self, partitions: frozenset[Partition]) -> None:
            revoked.append(partitions)

    rebalancer = Rebalancer(cast("GroupClient", Group()), Hearing(), None, lambda _: None)
    async with asyncio.TaskGroup() as ended:
        pass
    rebalancer.leave([processor_of(PARTITION)], ended)
    await rebalancer.leave_rest([processor_of(Partition("t", 1))])
    assert revoked == [frozenset({PARTITION, Partition("t", 1)})]
