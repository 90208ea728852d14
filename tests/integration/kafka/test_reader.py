"""Reading without a group against a real broker."""

import asyncio
import gc
import time

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError

from infra.local.ports import free_port
from services.ingest.end_offsets import EndOffsets
from shared.kafka.reader import Follower, read_tail
from shared.kafka.records import Partition
from shared.kafka.topics import Topic, topic_name
from shared.settings import ServiceSettings
from tests.integration.kafka.support import feed, plain_producer, replaced, report, until

pytestmark = pytest.mark.kafka


async def test_a_tail_ends_where_the_log_ended(settings: ServiceSettings) -> None:
    await feed(settings, [str(number).encode() for number in range(50_000)], topic=Topic.CALLBACKS)
    partition = Partition(topic_name(settings, Topic.CALLBACKS), 0)
    began = time.monotonic()
    found = [each.offset async for each in read_tail(settings, partition, 50_000)]
    report(f"50,000 records read back in {time.monotonic() - began:.2f} s")
    assert found == list(range(50_000))
    assert [each.offset async for each in read_tail(settings, partition, 3)] == [49_997, 49_998, 49_999]
    assert [each.offset async for each in read_tail(settings, partition, 9, earliest=49_999)] == [49_999]


async def test_the_tail_of_an_empty_partition_is_empty(settings: ServiceSettings) -> None:
    partition = Partition(topic_name(settings, Topic.CALLBACKS), 1)
    assert [each async for each in read_tail(settings, partition, 10)] == []


async def test_a_follower_misses_nothing_after_it_was_entered(settings: ServiceSettings) -> None:
    name = topic_name(settings, Topic.REPLIES)
    await feed(settings, [b"before"] * 5, topic=Topic.REPLIES, partition=3)
    found: list[bytes | None] = []
    async with Follower(settings, name, partitions=[3], tail=0) as follower:

        async def follow() -> None:
            async for records in follower.records():
                found.extend(each.value for each in records)

        following = asyncio.create_task(follow())
        await feed(settings, [b"after"] * 5, topic=Topic.REPLIES, partition=3)
        await until(lambda: len(found) == 5)
        following.cancel()
        await asyncio.wait([following])
    assert found == [b"after"] * 5


async def test_a_follower_from_the_start_knows_when_it_has_caught_up(settings: ServiceSettings) -> None:
    await feed(settings, [b"x"] * 700, topic=Topic.DESTINATIONS)
    name = topic_name(settings, Topic.DESTINATIONS)
    found = 0
    async with Follower(settings, name, partitions=[0], tail=None) as follower:
        async for records in follower.records():
            found += len(records)
            if await follower.caught_up():
                break
    assert found == 700


async def test_a_tail_of_a_log_that_is_away_leaves_nothing_open(settings: ServiceSettings) -> None:
    """A client that had not connected was forgotten; who asked again and again collected them."""
    away = settings.model_copy(update={"kafka": f"127.0.0.1:{free_port()}"})
    partition = Partition(topic_name(away, Topic.RESULTS), 0)
    with pytest.raises(KafkaError):
        _ = [record async for record in read_tail(away, partition, 1)]
    gc.collect()  # warns of what was left open, and warnings are errors


async def test_end_offsets_hold_whatever_was_acknowledged_before_the_question(
    settings: ServiceSettings,
) -> None:
    """Answers are shared, but never with somebody who asked later: that could hide an accepted request."""
    name = topic_name(settings, Topic.REQUESTS)
    ends = EndOffsets(settings)
    await ends.start()
    try:
        assert sum((await ends.of(frozenset({name}), 5.0)).values()) == 0
        async with plain_producer(settings) as producer:
            for number in range(1, 51):
                asked_before = asyncio.create_task(ends.of(frozenset({name}), 5.0))
                await producer.send_and_wait(name, value=b"x", partition=2)
                found = await asyncio.gather(*(ends.of(frozenset({name}), 5.0) for _ in range(5)))
                assert [each[Partition(name, 2)] for each in found] == [number] * 5
                await asked_before
    finally:
        await ends.stop()


async def test_end_offsets_count_what_an_open_transaction_holds_back(settings: ServiceSettings) -> None:
    name = topic_name(settings, Topic.REQUESTS)
    ends = EndOffsets(settings)
    await ends.start()
    try:
        async with AIOKafkaProducer(
            bootstrap_servers=settings.kafka,
            transactional_id=f"{settings.topic_prefix}tx",
            transaction_timeout_ms=10_000,
        ) as producer:
            await producer.begin_transaction()
            await producer.send_and_wait(name, value=b"x", partition=2)
            assert (await ends.of(frozenset({name}), 5.0))[Partition(name, 2)] == 1
            await producer.abort_transaction()
    finally:
        await ends.stop()


def kill(client: AIOKafkaConsumer, task: str) -> None:
    """End a task of the client library, as a stray cancellation does."""
    (client._client._sync_task if task == "metadata" else client._fetcher._fetch_task).cancel()


@pytest.mark.outage
@pytest.mark.parametrize("task", ["fetch", "metadata"])
async def test_a_follower_whose_client_has_died_skips_nothing(settings: ServiceSettings, task: str) -> None:
    name = topic_name(settings, Topic.REPLIES)
    found: list[bytes | None] = []
    before = replaced("follower", f"dead_{task}_task")
    async with Follower(settings, name, partitions=[3], tail=0) as follower:

        async def follow() -> None:
            async for records in follower.records():
                found.extend(each.value for each in records)

        following = asyncio.create_task(follow())
        await feed(settings, [b"before"] * 5, topic=Topic.REPLIES, partition=3)
        await until(lambda: len(found) == 5)
        kill(follower._client, task)
        await feed(settings, [b"after"] * 5, topic=Topic.REPLIES, partition=3)
        await until(lambda: len(found) >= 10, timeout_s=5)
        await until(lambda: follower.live)
        following.cancel()
        await asyncio.wait([following])
    assert found == [b"before"] * 5 + [b"after"] * 5
    assert replaced("follower", f"dead_{task}_task") == before + 1


@pytest.mark.outage
async def test_a_follower_whose_client_has_died_is_not_live(settings: ServiceSettings) -> None:
    name = topic_name(settings, Topic.REPLIES)
    async with Follower(settings, name, partitions=[3], tail=0) as follower:
        states = [follower.live]
        kill(follower._client, "fetch")
        await until(lambda: not follower.live)
        async for records in follower.records():
            states += [records == [], follower.live]
            break
    assert states == [True, True, True]


@pytest.mark.outage
async def test_a_tail_whose_client_dies_fails_soon(
    settings: ServiceSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    await feed(settings, [b"x"] * 5, topic=Topic.CALLBACKS)

    partition = Partition(topic_name(settings, Topic.CALLBACKS), 0)
    seek = AIOKafkaConsumer.seek

    def seek_and_die(client: AIOKafkaConsumer, source: TopicPartition, offset: int) -> None:
        seek(client, source, offset)
        kill(client, "fetch")

    monkeypatch.setattr(AIOKafkaConsumer, "seek", seek_and_die)
    with pytest.raises(KafkaError, match="fetch task"):
        async with asyncio.timeout(5):
            _ = [each async for each in read_tail(settings, partition, 5)]


@pytest.mark.outage
async def test_end_offsets_are_told_after_their_client_has_died(settings: ServiceSettings) -> None:
    topics = frozenset({topic_name(settings, Topic.REQUESTS)})
    ends = EndOffsets(settings)
    await ends.start()
    before = replaced("end_offsets")
    try:
        kill(ends._client, "metadata")
        await until(ends._client._client._sync_task.done)
        await feed(settings, [b"x"], topic=Topic.REQUESTS)
        assert sum((await ends.of(topics, 5.0)).values()) == 1
    finally:
        await ends.stop()
    assert replaced("end_offsets") == before + 1
