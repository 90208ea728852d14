"""Bytes that the client library cannot read stop their own partition, with an alarm, and no other.

A byte of each fetched batch with a mark in it is turned over, as a damaged disk or network would.
"""

from collections.abc import Callable
from functools import partial

import pytest
from aiokafka.record.memory_records import MemoryRecords
from structlog.testing import capture_logs

from services.projector import metrics
from services.projector.settings import ProjectorSettings
from shared.kafka import header_names
from shared.kafka.records import Partition
from shared.kafka.topics import Topic, topic_name
from tests.integration.db.support import Inspector
from tests.integration.projector.support import feed, positions, running, until, until_projected
from tests.support.log_builder import PREFIX, LogBuilder
from tests.support.requests import live

pytestmark = [pytest.mark.kafka, pytest.mark.mysql]

MARK = b"a-mark-to-be-damaged"
Damage = Callable[[bytes], bytes]
TolerantRecords = header_names.TolerantRecords


def flipped(data: bytes) -> bytes:
    return data.replace(MARK, MARK.upper())


def cut_short(data: bytes) -> bytes:
    at = data.find(MARK)
    return data if at < 0 else data[:at]


def damage(monkeypatch: pytest.MonkeyPatch, do: Damage, times: int | None = None) -> list[bytes]:
    """Have the library find damaged bytes, so many times if a number is given; returns those damaged."""
    done: list[bytes] = []

    def damaged(data: bytes) -> MemoryRecords:
        if MARK in data and (times is None or len(done) < times):
            done.append(data)
            data = do(data)
        return TolerantRecords(data)

    monkeypatch.setattr(header_names, "TolerantRecords", damaged)
    return done


async def fed(settings: ProjectorSettings, whole: int) -> tuple[Partition, int]:
    """Requests, and in one partition a record with the mark behind some others; returns where that lies."""
    log = LogBuilder()
    for number in range(100):
        live(log, number)
    await feed(settings, log.records())
    before = len(log.logs[Partition(PREFIX + Topic.RESULTS, 1)])
    for value in [*[b"whole"] * whole, MARK, b"behind"]:
        tail = LogBuilder()
        tail.raw(Topic.RESULTS, value, partition=1, key=b"k")
        await feed(settings, tail.records())
    return Partition(topic_name(settings, Topic.RESULTS), 1), before + whole


def alarm(partition: Partition) -> float:
    return float(metrics.ALARM.labels(*partition)._value.get())


async def stands_at(settings: ProjectorSettings, partition: Partition, offset: int) -> bool:
    return (await positions(settings)).get(partition) == offset


@pytest.mark.parametrize(("do", "reason"), [(flipped, "are damaged"), (cut_short, "would start at")])
async def test_a_damaged_batch_stops_its_partition_alone(
    settings: ProjectorSettings,
    database: Inspector,
    monkeypatch: pytest.MonkeyPatch,
    do: Damage,
    reason: str,
) -> None:
    """Past a batch that is cut short the library moves on its own account, which is no better."""
    damage(monkeypatch, do)
    damaged, offset = await fed(settings, whole=3)
    with capture_logs() as lines:
        async with running(settings) as projector:
            await until(lambda: projector.readiness() == {"working": True, "partitions": False})
            await until(partial(stands_at, settings, damaged, offset))
            await until_projected(settings, but=frozenset({damaged}))
            log = LogBuilder()
            live(log, 1_000)
            await feed(settings, log.records())
            await until_projected(settings, but=frozenset({damaged}))
            assert projector.readiness() == {"working": True, "partitions": False}
    assert alarm(damaged) == 1
    [line] = [each for each in lines if each["event"] == "projector.partition_stopped"]
    assert (line["partition"], line["offset"]) == (str(damaged), offset)
    assert reason in line["reason"]
    assert (await positions(settings))[damaged] == offset
    assert not [each for each in lines if each["event"] in ("projector.session_lost", "projector.gap")]
    assert len(database.fetch("SELECT id FROM requests WHERE status = 'succeeded'")) == 101


async def test_an_unforeseen_exception_of_the_library_is_its_partitions(
    settings: ProjectorSettings, database: Inspector, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Unreadable(TolerantRecords):
        def next_batch(self) -> object:
            begin, batch = self._at, super().next_batch()
            if MARK in bytes(self._data[begin : self._at]):
                raise ValueError("no batch of any kind")
            return batch

    monkeypatch.setattr(header_names, "TolerantRecords", Unreadable)
    damaged, offset = await fed(settings, whole=0)
    async with running(settings) as projector:
        await until(lambda: projector.readiness() == {"working": True, "partitions": False})
        await until_projected(settings, but=frozenset({damaged}))
    assert (alarm(damaged), (await positions(settings))[damaged]) == (1, offset)
    assert len(database.fetch("SELECT id FROM requests WHERE status = 'succeeded'")) == 100


async def test_damage_on_the_way_costs_nothing(
    settings: ProjectorSettings, database: Inspector, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = damage(monkeypatch, flipped, times=3)
    damaged, _ = await fed(settings, whole=3)
    async with running(settings) as projector:
        await until_projected(settings)
        assert all(projector.readiness().values())
    assert (len(done), alarm(damaged)) == (3, 0)
    assert len(database.fetch("SELECT id FROM requests WHERE status = 'succeeded'")) == 100
