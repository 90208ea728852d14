"""The projector on a real log and a real database."""

import time
from functools import partial

import pytest
from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete

from services.projector.settings import ProjectorSettings
from shared.kafka.records import Partition
from shared.kafka.topics import Topic, topic_name
from tests.integration.db.support import Inspector
from tests.integration.projector.support import (
    feed,
    positions,
    process,
    producing,
    report,
    running,
    until,
    until_projected,
)
from tests.support.log_builder import LogBuilder
from tests.support.requests import live, request_id, submit

pytestmark = [pytest.mark.kafka, pytest.mark.mysql]


async def test_the_log_becomes_rows(settings: ProjectorSettings, database: Inspector) -> None:
    log = LogBuilder()
    for number in range(300):
        live(log, number)
    await feed(settings, log.records())
    async with running(settings):
        await until_projected(settings)
    counted = database.fetch(
        "SELECT mode, status, callback_status, COUNT(*) AS n FROM requests GROUP BY 1, 2, 3"
    )
    assert counted == [{"mode": "async", "status": "succeeded", "callback_status": "delivered", "n": 300}]
    assert len(database.rows("request_events")) == 900


async def test_a_record_shows_at_once(settings: ProjectorSettings, database: Inspector) -> None:
    waits: list[float] = []
    async with running(settings) as projector, producing(settings) as producer:
        await until(lambda: projector.readiness()["working"])
        for number in range(30):
            log = LogBuilder()
            submit(log, number)
            [record] = log.records()
            await producer.send_and_wait(
                topic_name(settings, Topic.REQUESTS),
                value=record.value,
                key=record.key,
                headers=list(record.headers),
            )
            began = time.monotonic()
            await until(partial(_knows, database, request_id(number)))
            waits.append((time.monotonic() - began) * 1000)
    waits.sort()
    report(f"ack to row: p50 {waits[15]:.0f} ms, worst {waits[-1]:.0f} ms")
    assert waits[15] < 1_000


async def test_what_cannot_be_read_is_kept_and_stops_nothing(
    settings: ProjectorSettings, database: Inspector
) -> None:
    log = LogBuilder()
    log.raw(Topic.RESULTS, b"\xff\x00", key=request_id(0).encode())
    log.raw(Topic.CALLBACKS, None, key=b"k")
    log.raw(Topic.REQUESTS, b"no request")
    live(log, 0)
    await feed(settings, log.records())
    async with running(settings) as projector:
        await until_projected(settings)
        assert all(projector.readiness().values())
    anomalies = database.fetch("SELECT * FROM request_events WHERE anomaly IS NOT NULL ORDER BY topic")
    assert [row["topic"].removeprefix(settings.topic_prefix) for row in anomalies] == ["callbacks", "results"]
    assert anomalies[1]["request_id"] == request_id(0)
    assert [row["status"] for row in database.rows("requests")] == ["succeeded"]


async def test_positions_pass_markers_and_aborted_records(
    settings: ProjectorSettings, database: Inspector
) -> None:
    """Read-your-writes compares with the log's end, which counts what no reader is shown."""
    topic = topic_name(settings, Topic.REQUESTS)
    log = LogBuilder()
    submit(log, 0)
    [record] = log.records()
    fields = {"value": record.value, "key": record.key, "headers": list(record.headers), "partition": 0}
    async with running(settings):
        async with producing(settings, transactional_id=f"{settings.topic_prefix}tx") as producer:
            async with producer.transaction():
                await producer.send_and_wait(topic, **fields)
            await until_projected(settings)
            await producer.begin_transaction()
            await producer.send_and_wait(topic, value=b"{}", partition=0)
            await producer.abort_transaction()
        await until_projected(settings)
    assert (await positions(settings))[Partition(topic, 0)] == 4
    assert len(database.rows("requests")) == 1


async def test_a_lost_position_stops_its_partition_only(
    settings: ProjectorSettings, database: Inspector
) -> None:
    log = LogBuilder()
    for number in range(10):
        submit(log, number)
    await feed(settings, log.records())
    async with running(settings):
        await until_projected(settings)
    await feed(settings, log.records())
    lost = Partition(topic_name(settings, Topic.REQUESTS), 0)
    before = (await positions(settings))[lost]
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.kafka)
    await admin.start()
    await admin.delete_records({TopicPartition(*lost): RecordsToDelete(before_offset=before + 2)})
    await admin.close()
    async with running(settings) as projector:
        await until_projected(settings, but=frozenset({lost}))
        assert projector.readiness() == {"working": True, "partitions": False}
    assert (await positions(settings))[lost] == before


async def test_a_repeated_projection_changes_nothing(
    settings: ProjectorSettings, database: Inspector
) -> None:
    log = LogBuilder()
    for number in range(50):
        live(log, number)
    await feed(settings, log.records())
    async with running(settings):
        await until_projected(settings)
    once = database.dump()
    database.fetch("UPDATE projection_offsets SET next_offset = 0")
    async with running(settings):
        await until_projected(settings)
    assert database.dump() == once


async def test_killed_again_and_again_it_loses_and_doubles_nothing(
    settings: ProjectorSettings, database: Inspector
) -> None:
    log = LogBuilder()
    for number in range(2_000):
        live(log, number)
    await feed(settings, log.records())
    small = settings.model_copy(update={"batch_records": 50})
    seen = 0
    for _ in range(4):
        async with process(small) as child:
            await until(partial(_has_more_than, database, seen))
            child.kill()
        seen = _events(database)
        assert seen == sum((await positions(settings)).values())
    async with running(settings):
        await until_projected(settings)
    assert _events(database) == 6_000
    assert len(database.fetch("SELECT id FROM requests WHERE callback_status = 'delivered'")) == 2_000


def _knows(database: Inspector, request_id: str) -> bool:
    return bool(database.fetch(f"SELECT 1 FROM requests WHERE id = '{request_id}'"))  # noqa: S608


def _has_more_than(database: Inspector, count: int) -> bool:
    return _events(database) > count


def _events(database: Inspector) -> int:
    return int(database.fetch("SELECT COUNT(*) AS n FROM request_events")[0]["n"])
