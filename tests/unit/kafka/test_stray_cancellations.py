"""A cancellation that the client library lets out ends no task in silence."""

import asyncio
from collections.abc import Iterable
from typing import cast

import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaError

from shared.kafka.ending import own_cancellations_only
from shared.kafka.group_client import GroupClient
from shared.kafka.handler import MemberSpec
from shared.kafka.ownership import Ownership
from shared.kafka.partition_run import PartitionRun
from shared.kafka.reader import Follower
from shared.kafka.recall import Recalled
from shared.kafka.records import Partition, Record
from shared.settings import KafkaSettings
from tests.unit.kafka.test_committer import Owner

PARTITION = Partition("t", 0)
SPEC = MemberSpec(group="g", windows={"t": 10}, window_bytes=10, probation=None, dozing=frozenset())


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
    opened: asyncio.Future[Recalled | None] = asyncio.get_running_loop().create_future()
    client = cast("GroupClient", Group())
    ownership = Ownership(
        client, Handler(), SPEC, opened=lambda _, recalled: opened.set_result(recalled), own_commits={}
    )
    async with asyncio.timeout(5), asyncio.TaskGroup() as tasks:
        ownership.take([PartitionRun(PARTITION, Owner(), window=10, window_bytes=10)], tasks)
    recalled = opened.result()
    assert recalled is not None
    assert recalled[0].position == 7


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
