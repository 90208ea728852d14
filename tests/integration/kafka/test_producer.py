"""The supervised producer against a real broker that is well."""

import asyncio
import time
from collections.abc import AsyncIterator

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition

from shared.kafka import topics_admin
from shared.kafka.producer import LogUnavailable, SendRefused, SendUnknown, SupervisedProducer
from shared.kafka.reader import read_tail
from shared.kafka.records import OutgoingRecord, Partition
from shared.kafka.topics import REQUEST_BYTES, Topic, topic_name
from shared.settings import ServiceSettings
from tests.integration.kafka.support import replaced, until

pytestmark = pytest.mark.kafka


@pytest.fixture
async def producer(settings: ServiceSettings) -> AsyncIterator[SupervisedProducer]:
    made = SupervisedProducer(settings)
    await made.start()
    yield made
    await made.stop()


def outgoing(value: bytes, topic: Topic | str = Topic.REQUESTS, *, key: bytes = b"k") -> OutgoingRecord:
    return OutgoingRecord(topic=topic, key=key, value=value, headers=(("ce_id", b"1"),))


async def test_an_acknowledged_record_is_in_the_log(
    settings: ServiceSettings, producer: SupervisedProducer
) -> None:
    values = [str(number).encode() for number in range(200)]
    sent = await asyncio.gather(*(producer.send(outgoing(each)) for each in values))
    assert len({each.partition for each in sent}) == 1
    assert sorted(each.offset for each in sent) == list(range(200))
    found = [each async for each in read_tail(settings, Partition(sent[0].topic, sent[0].partition), 500)]
    assert {each.offset: each.value for each in found} == {
        each.offset: value for each, value in zip(sent, values, strict=True)
    }
    assert found[0].header("ce_id") == b"1"
    assert {each.timestamp_ms for each in found} == {each.timestamp_ms for each in sent}


async def test_a_record_at_the_limit_passes_and_one_beyond_it_is_refused(
    settings: ServiceSettings, producer: SupervisedProducer
) -> None:
    """The refusal does not reach the broker: a batch that it refuses costs the producer its sequence."""
    before = replaced("producer")
    fits = REQUEST_BYTES - 200
    await producer.send(outgoing(b"x" * fits))
    with pytest.raises(SendRefused, match=r"takes 1310720"):
        await producer.send(outgoing(b"x" * (REQUEST_BYTES - 20)))
    assert (await producer.send(outgoing(b"after"))).offset == 1
    assert replaced("producer") == before


async def test_a_foreign_topic_that_refuses_does_not_stop_the_producer(
    settings: ServiceSettings, producer: SupervisedProducer
) -> None:
    """A topic of unknown limits: the broker's refusal breaks the sequence, so the producer is replaced."""
    other = settings.model_copy(update={"topic_prefix": f"{settings.topic_prefix}other."})
    await topics_admin.apply(other)
    name = topic_name(other, Topic.METRICS)
    with pytest.raises(SendRefused):
        await producer.send(outgoing(b"x" * 2_000_000, name))
    for number in range(3):
        await until(lambda: sent(producer, outgoing(b"small", name)))
        assert (await producer.send(outgoing(b"ours"))).offset == number


async def sent(producer: SupervisedProducer, record: OutgoingRecord) -> bool:
    try:
        await producer.send(record)
    except (SendUnknown, LogUnavailable):
        return False
    return True


async def test_missing_topics_fail_at_once(settings: ServiceSettings, producer: SupervisedProducer) -> None:
    began = time.monotonic()
    with pytest.raises(SendRefused, match="there is no topic"):
        await producer.send(outgoing(b"x", "replies.nowhere"))
    with pytest.raises(SendRefused, match="there is no topic"):
        await producer.send(outgoing(b"x", "replies.nowhere.else"))
    unapplied = SupervisedProducer(
        settings.model_copy(update={"topic_prefix": f"{settings.topic_prefix}unapplied."})
    )
    await unapplied.start()
    try:
        with pytest.raises(LogUnavailable, match="consuma topics apply"):
            await unapplied.send(outgoing(b"x"))
    finally:
        await unapplied.stop()
    assert time.monotonic() - began < 4.0


async def test_a_partition_that_is_not_there_is_refused(producer: SupervisedProducer) -> None:
    record = OutgoingRecord(topic=Topic.REPLIES, key=None, value=b"x", partition=99)
    with pytest.raises(SendRefused, match="no partition 99"):
        await producer.send(record)


async def test_a_lost_sequence_is_survived(producer: SupervisedProducer) -> None:
    """The broker answers OutOfOrderSequenceNumber for ever; only a new producer helps."""
    first = await producer.send(outgoing(b"1"))
    assert producer._client is not None
    numbers = producer._client._client._txn_manager._sequence_numbers
    numbers[TopicPartition(first.topic, first.partition)] += 5
    with pytest.raises(SendUnknown, match="OutOfOrderSequence"):
        await producer.send(outgoing(b"2"))
    await until(lambda: sent(producer, outgoing(b"3")))


async def test_a_rebuild_under_load_loses_and_doubles_nothing(
    settings: ServiceSettings, producer: SupervisedProducer
) -> None:
    acknowledged: list[bytes] = []

    async def replace() -> None:
        client = producer._client
        assert client is not None
        client.fail("test")
        await until(lambda: client not in producer._unclosed)

    async def one(number: int) -> None:
        value = str(number).encode()
        await producer.send(outgoing(value, key=value))
        acknowledged.append(value)

    for batch in range(5):
        sends = [asyncio.create_task(one(batch * 500 + number)) for number in range(500)]
        await asyncio.sleep(0)
        await replace()
        await asyncio.gather(*sends)
    assert len(acknowledged) == 2_500
    client = AIOKafkaConsumer(bootstrap_servers=settings.kafka, auto_offset_reset="earliest")
    await client.start()
    name = topic_name(settings, Topic.REQUESTS)
    ends = await client.end_offsets([TopicPartition(name, number) for number in range(8)])
    await client.stop()
    assert sum(ends.values()) == 2_500


async def test_sends_are_bounded_while_nothing_is_acknowledged(
    producer: SupervisedProducer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.kafka.producer.MAX_UNACKED_SENDS", 3)
    results = await asyncio.gather(
        *(producer.send(outgoing(b"x")) for _ in range(10)), return_exceptions=True
    )
    assert sum(isinstance(each, LogUnavailable) for each in results) == 7
    await producer.send(outgoing(b"x"))


async def test_a_stopped_producer_says_so(settings: ServiceSettings) -> None:
    producer = SupervisedProducer(settings)
    await producer.start()
    await producer.stop()
    with pytest.raises(LogUnavailable):
        await producer.send(outgoing(b"x"))


async def test_without_a_broker_start_fails_and_stop_does_not_hang(settings: ServiceSettings) -> None:
    producer = SupervisedProducer(settings.model_copy(update={"kafka": "127.0.0.1:1"}))
    with pytest.raises(LogUnavailable, match=r"127\.0\.0\.1:1"):
        await producer.start()
    await producer.stop()
