"""A damaged batch loses no record of other partitions, and its own partition is given up only after some."""

import asyncio
from collections import Counter
from types import SimpleNamespace

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import CorruptRecordException

from shared.kafka.group_client import GroupClient
from shared.kafka.records import Partition
from shared.settings import ServiceSettings

DAMAGED = TopicPartition("t", 0)


class Library:
    """In place of the client library's consumer: the first fetches meet a damaged batch."""

    _closed = True  # it runs no tasks that could have died

    def __init__(self, failures: int) -> None:
        self.failures = failures

    async def getmany(self, **_: object) -> dict[TopicPartition, list[object]]:
        if self.failures:
            self.failures -= 1
            raise CorruptRecordException(f"Invalid CRC - {DAMAGED}")
        raw = SimpleNamespace(
            topic="t", partition=0, offset=7, timestamp=1, timestamp_type=1, key=None, value=b"x", headers=()
        )
        return {DAMAGED: [raw]}

    def assignment(self) -> frozenset[TopicPartition]:
        return frozenset({DAMAGED})


def client(monkeypatch: pytest.MonkeyPatch, library: Library, damaged: Counter[Partition]) -> GroupClient:
    async def revoked() -> None: ...

    monkeypatch.setattr("shared.kafka.group_client.AIOKafkaConsumer", lambda **_: library)
    return GroupClient(
        ServiceSettings(), group="g", topics=["t"], assigned=lambda _: None, revoked=revoked, damaged=damaged
    )


async def test_the_client_is_given_up_and_the_damage_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    damaged: Counter[Partition] = Counter()
    for life in (1, 2):
        with pytest.raises(CorruptRecordException):
            await client(monkeypatch, Library(failures=1), damaged).poll()
        assert damaged == {Partition("t", 0): life}


async def test_damage_on_the_way_is_forgotten_once_the_partition_delivers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    damaged = Counter({Partition("t", 0): 2})
    async with asyncio.timeout(5):
        batches = await client(monkeypatch, Library(failures=0), damaged).poll()
    assert [record.offset for record in batches[Partition("t", 0)]] == [7]
    assert not damaged
