"""One member of a group against a real broker."""

import asyncio
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, OffsetAndMetadata, TopicPartition
from confluent_kafka import Producer
from confluent_kafka import TopicPartition as ConfluentPartition
from confluent_kafka.admin import AdminClient

from shared.kafka import topics_admin
from shared.kafka.commit_metadata import CommitMetadata, encode_metadata
from shared.kafka.consumer import PartitionConsumer, ReleaseRecord
from shared.kafka.records import Partition, Record
from shared.kafka.topics import Topic, topic_name
from shared.settings import ServiceSettings
from tests.integration.kafka.support import Recorder, commit_of, feed, plain_producer, replaced, until

pytestmark = pytest.mark.kafka


@asynccontextmanager
async def consuming(
    settings: ServiceSettings,
    handler: Recorder,
    *,
    window: int = 256,
    group: str = "callback",
    idle_topics: Collection[Topic] = (),
) -> AsyncIterator[PartitionConsumer]:
    consumer = PartitionConsumer(
        settings,
        group=group,
        topics=[Topic.RESULTS],
        handler=handler,
        window=window,
        idle_topics=idle_topics,
    )
    running = asyncio.create_task(consumer.run())
    try:
        yield consumer
    finally:
        await consumer.stop()
        await running


async def test_every_record_is_handled_once_and_committed(settings: ServiceSettings) -> None:
    fed = [at for number in range(8) for at in await feed(settings, [b"x"] * 100, partition=number)]
    handler = Recorder()
    async with consuming(settings, handler):
        await until(lambda: len(handler.handled) == 800)
    assert sorted(handler.handled) == fed
    for number in range(8):
        assert (await commit_of(settings, number))[0] == 100
    assert {part for parts in handler.assigned for part in parts} == {
        part for parts in handler.revoked for part in parts
    }


async def test_a_slow_record_holds_the_commit_and_nothing_else(settings: ServiceSettings) -> None:
    gate = asyncio.Event()

    async def work(record: Record) -> None:
        if record.offset == 3:
            await gate.wait()

    await feed(settings, [b"x"] * 50)
    handler = Recorder(work)
    async with consuming(settings, handler):
        await until(lambda: len(handler.handled) == 49)

        async def noted() -> bool:
            offset, note = await commit_of(settings, 0)
            return offset == 3 and note.done == ((4, 46),)

        await until(noted)
        gate.set()

        async def passed() -> bool:
            return (await commit_of(settings, 0))[0] == 50

        await until(passed)


async def test_a_fault_is_retried_until_it_heals_while_neighbours_go_on(settings: ServiceSettings) -> None:
    failures: dict[int, list[BaseException]] = {
        5: [OSError("away"), OSError("away")],
        7: [asyncio.CancelledError()],
    }
    order: list[int] = []

    async def work(record: Record) -> None:
        if failures.get(record.offset):
            raise failures[record.offset].pop()
        order.append(record.offset)

    fed = await feed(settings, [b"x"] * 20)
    handler = Recorder(work)
    async with consuming(settings, handler):
        await until(lambda: len(handler.handled) == 20)
    assert sorted(handler.handled) == fed
    assert order[-2:] in ([5, 7], [7, 5])
    assert (await commit_of(settings, 0))[0] == 20


async def test_a_slow_preparation_holds_its_partitions_alone(settings: ServiceSettings) -> None:
    gate = asyncio.Event()

    class Slow(Recorder):
        async def on_assigned(self, partitions: frozenset[Partition]) -> None:
            if any(each.number == 0 for each in partitions):
                await gate.wait()

    await feed(settings, [b"x"] * 10, partition=0)
    await feed(settings, [b"x"] * 10, partition=1)
    handler = Slow()
    async with consuming(settings, handler) as consumer:
        await until(lambda: len(handler.handled) == 10)
        assert not consumer.ready
        assert {number for number, _ in handler.handled} == {1}
        gate.set()
        await until(lambda: len(handler.handled) == 20)
        assert consumer.ready


async def test_a_preparation_that_fails_is_repeated(settings: ServiceSettings) -> None:
    class Flaky(Recorder):
        failures = 1

        async def on_assigned(self, partitions: frozenset[Partition]) -> None:
            if self.failures:
                self.failures -= 1
                raise OSError("away")

    await feed(settings, [b"x"] * 10)
    handler = Flaky()
    async with consuming(settings, handler):
        await until(lambda: len(handler.handled) == 10)


async def commit_by_hand(
    settings: ServiceSettings, group: str, offsets: dict[int, int], metadata: str = ""
) -> None:
    client = AIOKafkaConsumer(
        bootstrap_servers=settings.kafka, group_id=f"{settings.topic_prefix}{group}", enable_auto_commit=False
    )
    await client.start()
    try:
        topic = topic_name(settings, Topic.RESULTS)
        client.assign([TopicPartition(topic, number) for number in offsets])
        await client.commit(
            {
                TopicPartition(topic, number): OffsetAndMetadata(each, metadata)
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


@pytest.mark.outage
@pytest.mark.parametrize("task", ["_fetch_task", "_coordination_task", "_heartbeat_task"])
async def test_a_dead_task_of_the_client_library_is_noticed(settings: ServiceSettings, task: str) -> None:
    """The library would answer nothing for ever, or be thrown out of the group, and look healthy."""
    handler = Recorder()
    async with consuming(settings, handler) as consumer:
        await until(lambda: consumer.ready)
        library = consumer._member._client._client  # type: ignore[union-attr]
        owner = library._fetcher if task == "_fetch_task" else library._coordinator
        before = replaced("consumer")
        getattr(owner, task).cancel()
        await until(lambda: replaced("consumer") > before, timeout_s=5)
        fed = await feed(settings, [b"x"])
        await until(lambda: handler.handled == fed)
        assert consumer.ready


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


async def test_missing_topics_are_waited_for(settings: ServiceSettings) -> None:
    before = replaced("consumer")
    fresh = settings.model_copy(update={"topic_prefix": f"{settings.topic_prefix}later."})
    handler = Recorder()
    async with consuming(fresh, handler) as consumer:
        await until(lambda: replaced("consumer") > before)
        assert not consumer.ready
        await topics_admin.apply(fresh)
        await feed(fresh, [b"x"])
        await until(lambda: bool(handler.handled))
        assert consumer.ready


async def test_a_record_that_waits_is_left_when_the_service_stops(settings: ServiceSettings) -> None:
    """A handler that waits for long need not hold the stop up; the next owner gets the record."""
    stopping = asyncio.Event()
    waiting = asyncio.Event()

    async def work(record: Record) -> None:
        if record.offset == 1:
            waiting.set()
            await stopping.wait()
            raise ReleaseRecord

    await feed(settings, [b"x"] * 3)
    patient = settings.model_copy(update={"drain_timeout_ms": 60_000})
    handler = Recorder(work)
    async with asyncio.timeout(30), consuming(patient, handler):
        await until(lambda: waiting.is_set() and len(handler.handled) == 2)
        stopping.set()
    heir = Recorder()
    async with consuming(settings, heir):
        await until(lambda: heir.handled == [(0, 1)])


async def test_a_stop_does_not_wait_for_a_broker_that_is_not_there(settings: ServiceSettings) -> None:
    away = settings.model_copy(update={"kafka": "127.0.0.1:1"})
    async with asyncio.timeout(10), consuming(away, Recorder()) as consumer:
        assert not consumer.ready


async def test_an_error_in_the_service_s_own_code_ends_the_run(settings: ServiceSettings) -> None:
    class Broken(Recorder):
        async def on_revoked(self, partitions: frozenset[Partition]) -> None:
            raise RuntimeError("bug")

    consumer = PartitionConsumer(settings, group="callback", topics=[Topic.RESULTS], handler=Broken())
    running = asyncio.create_task(consumer.run())
    await until(lambda: consumer.ready)
    stopping = asyncio.create_task(consumer.stop())
    with pytest.raises(RuntimeError, match="bug"):
        await running
    await stopping
