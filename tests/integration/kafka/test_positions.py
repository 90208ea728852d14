"""Where a member begins, and what the log or its journal lacks or has too much: offsets, gaps, entries."""

import asyncio
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, OffsetAndMetadata, TopicPartition
from confluent_kafka import Producer
from confluent_kafka import TopicPartition as ConfluentPartition
from confluent_kafka.admin import AdminClient

from shared.kafka.commit_metadata import CommitMetadata, encode_metadata
from shared.kafka.quarantine import Quarantine
from shared.kafka.records import Partition, Record
from shared.kafka.topics import Topic, topic_name
from shared.settings import ServiceSettings
from tests.integration.kafka.support import Recorder, commit_of, consuming, feed, plain_producer, until

pytestmark = pytest.mark.kafka


async def commit_by_hand(
    settings: ServiceSettings,
    group: str,
    offsets: dict[int, int],
    metadata: str = "",
    *,
    topic: Topic = Topic.RESULTS,
) -> None:
    client = AIOKafkaConsumer(
        bootstrap_servers=settings.kafka, group_id=f"{settings.topic_prefix}{group}", enable_auto_commit=False
    )
    await client.start()
    try:
        name = topic_name(settings, topic)
        client.assign([TopicPartition(name, number) for number in offsets])
        await client.commit(
            {
                TopicPartition(name, number): OffsetAndMetadata(each, metadata)
                for number, each in offsets.items()
            }
        )
    finally:
        await client.stop()


async def test_a_lost_offset_stops_that_partition_alone_and_loudly(settings: ServiceSettings) -> None:
    """No commit for partition 0, one beyond the log's end for partition 1."""
    await commit_by_hand(settings, "other", {1: 1_000_000} | dict.fromkeys(range(2, 8), 0))
    for number in range(3):
        await feed(settings, [b"x"] * 10, partition=number)
    handler = Recorder()
    async with consuming(settings, handler, group="other") as consumer:
        topic = topic_name(settings, Topic.RESULTS)
        await until(lambda: consumer.alarmed == {Partition(topic, 0), Partition(topic, 1)})
        await until(lambda: len(handler.handled) == 10)
        assert consumer.ready
        await feed(settings, [b"x"] * 10, partition=2)
        await until(lambda: len(handler.handled) == 20)
    assert {number for number, _ in handler.handled} == {2}
    assert (await commit_of(settings, 1, group="other"))[0] == 1_000_000


def abort(settings: ServiceSettings, count: int, *, transactional_id: str = "direct") -> None:
    """Have a transaction of `count` records in partition 0 aborted, as any direct producer may."""
    topic = topic_name(settings, Topic.RESULTS)
    producer = Producer(
        {
            "bootstrap.servers": settings.kafka,
            "transactional.id": f"{settings.topic_prefix}{transactional_id}",
            "transaction.timeout.ms": 10_000,
            "linger.ms": 5,
        }
    )
    producer.init_transactions()
    producer.begin_transaction()
    for _ in range(count):
        producer.produce(topic, b"aborted", partition=0)
    producer.flush(10)
    producer.abort_transaction()


@pytest.mark.parametrize("count", [1, 63, 64, 65, 500, 10_000])
async def test_a_gap_of_any_size_delays_nothing(settings: ServiceSettings, count: int) -> None:
    """An aborted transaction lies before each record, before the first one and behind the last, too."""
    handler = Recorder()
    async with consuming(settings, handler) as consumer:
        await until(lambda: consumer.ready)
        for number in (1, 2):
            await asyncio.to_thread(abort, settings, count)
            (last,) = await feed(settings, [b"x"])
            await until(lambda: len(handler.handled) == number, timeout_s=5)  # noqa: B023 - awaited right here
        await asyncio.to_thread(abort, settings, count)

        async def at_end() -> bool:
            return (await commit_of(settings, 0))[0] == last[1] + 1 + count + 1

        await until(at_end)


async def test_a_gap_that_was_fetched_with_the_records_behind_it(settings: ServiceSettings) -> None:
    """With and without blamed records in it: they have left the log."""
    await asyncio.to_thread(abort, settings, 500)
    fed = await feed(settings, [b"x"] * 3)
    metadata = CommitMetadata(attempts={0: 2, 70: 1, 500: 1}, done=((10, 5),))
    await commit_by_hand(settings, "callback", {0: 0}, encode_metadata(0, metadata))
    handler = Recorder()
    async with consuming(settings, handler):
        await until(lambda: sorted(handler.handled) == fed, timeout_s=5)


async def test_records_that_were_deleted_below_the_commit_are_not_missed(settings: ServiceSettings) -> None:
    fed = await feed(settings, [b"x"] * 1_000)
    await commit_by_hand(settings, "callback", {0: 990}, "")
    await delete_records(settings, 0, 985)
    handler = Recorder()
    async with consuming(settings, handler):
        await until(lambda: sorted(handler.handled) == fed[990:], timeout_s=5)


async def delete_records(settings: ServiceSettings, number: int, before: int) -> None:
    """What retention does once a segment is old enough."""
    admin = AdminClient({"bootstrap.servers": settings.kafka})
    where = ConfluentPartition(topic_name(settings, Topic.RESULTS), number, before)
    (done,) = admin.delete_records([where]).values()
    await asyncio.to_thread(done.result, 10)


async def test_transactions_leave_gaps_that_nobody_waits_for(settings: ServiceSettings) -> None:
    """Aborted records are not seen; the commit passes the markers, also the last one."""
    topic = topic_name(settings, Topic.RESULTS)
    producer = AIOKafkaProducer(
        bootstrap_servers=settings.kafka,
        transactional_id=f"{settings.topic_prefix}direct",
        transaction_timeout_ms=10_000,
    )
    await producer.start()
    try:
        async with producer.transaction():
            await producer.send_and_wait(topic, b"committed", partition=0)
        await producer.begin_transaction()
        await producer.send_and_wait(topic, b"aborted", partition=0)
        await producer.abort_transaction()
        async with plain_producer(settings) as plain:
            last = await plain.send_and_wait(topic, b"plain", partition=0)
        async with producer.transaction():
            await producer.send_and_wait(topic, b"committed", partition=0)
    finally:
        await producer.stop()
    seen: list[bytes | None] = []

    async def work(record: Record) -> None:
        seen.append(record.value)

    async with consuming(settings, Recorder(work)):
        await until(lambda: len(seen) == 3)

        async def at_end() -> bool:
            return (await commit_of(settings, 0))[0] == int(last.offset) + 3

        await until(at_end)
    assert sorted(filter(None, seen)) == [b"committed", b"committed", b"plain"]


async def test_entries_of_records_that_ended_elsewhere_are_dropped(
    settings: ServiceSettings, tmp_path: Path
) -> None:
    """Also those of partitions that this member never owns again; the others may still have to be blamed."""
    topic = Topic.CALLBACKS_RETRY_1S
    held = [Record(topic_name(settings, topic), 0, offset, 1, None, b"x") for offset in (5, 15)]
    await commit_by_hand(settings, "callback", {0: 10}, topic=topic)
    first = Quarantine(tmp_path)
    async with consuming(settings, Recorder(), quarantine=first) as consumer:
        await until(lambda: consumer.ready)
        assert first.journal is not None
        for each in held:
            first.journal.write(each, 1)
    second = Quarantine(tmp_path)
    async with consuming(settings, Recorder(), quarantine=second) as consumer:
        await until(lambda: consumer.ready)
        assert second.journal is not None
        assert [each.offset for each in second.journal.recovered.values()] == [15]
