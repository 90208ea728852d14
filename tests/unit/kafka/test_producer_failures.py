"""What a failed append means to its caller."""

import asyncio
from collections.abc import AsyncIterator, Awaitable

import pytest
from aiokafka.errors import KafkaError, MessageSizeTooLargeError, OutOfOrderSequenceNumber
from aiokafka.producer.message_accumulator import MessageBatch
from aiokafka.structs import TopicPartition

from shared.kafka.append_errors import LogUnavailable, RecordTooLarge, SendUnknown
from shared.kafka.producer_client import ProducerClient
from shared.kafka.records import OutgoingRecord, Position
from shared.settings import KafkaSettings

TOPIC = "theirs"
RECORD = OutgoingRecord(topic=TOPIC, key=None, value=b"x")


@pytest.fixture
async def client(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[ProducerClient]:
    """A client that knows a topic, and has no broker."""
    made = ProducerClient(KafkaSettings())
    monkeypatch.setattr(made._client.client.cluster, "partitions_for_topic", lambda _: {0})
    monkeypatch.setattr(made._client, "_partition", lambda *_: 0)
    yield made
    await made.close()


async def failing(client: ProducerClient, error: KafkaError) -> None:
    """Have the broker refuse the batch that the record is in."""
    queued = await client.enqueue(TOPIC, RECORD)
    take(client).failure(error)
    await queued


def take(client: ProducerClient) -> MessageBatch:
    """The batch, taken from the queue as the sender takes it."""
    client._client._txn_manager.set_pid_and_epoch(1, 0)
    return client._client._message_accumulator._pop_batch(TopicPartition(TOPIC, 0))


async def test_a_record_that_was_under_way_when_its_client_was_closed_may_be_written(
    client: ProducerClient,
) -> None:
    queued: Awaitable[Position] = await client.enqueue(TOPIC, RECORD)
    take(client)
    await client.close()
    with pytest.raises(SendUnknown):
        await queued


async def test_one_that_was_under_way_and_queued_again_may_be_written(client: ProducerClient) -> None:
    queued = await client.enqueue(TOPIC, RECORD)
    client._client._message_accumulator.reenqueue(take(client))
    await client.close()
    with pytest.raises(SendUnknown):
        await queued


async def test_one_that_only_waited_is_not_written(client: ProducerClient) -> None:
    queued = await client.enqueue(TOPIC, RECORD)
    await client.close()
    with pytest.raises(LogUnavailable):
        await queued
    with pytest.raises(LogUnavailable):
        await client.enqueue(TOPIC, RECORD)


async def test_a_client_is_of_no_more_use_after_a_batch_has_failed(
    client: ProducerClient,
) -> None:
    with pytest.raises(SendUnknown, match="OutOfOrderSequence"):
        await failing(client, OutOfOrderSequenceNumber())
    assert client.failure == "OutOfOrderSequenceNumber"


async def test_a_record_that_the_broker_finds_too_large_is_told_from_other_refusals(
    client: ProducerClient,
) -> None:
    with pytest.raises(RecordTooLarge):
        await failing(client, MessageSizeTooLargeError())


async def test_a_client_is_worn_out_before_its_sequence_numbers_overflow(
    client: ProducerClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.kafka.producer_client.MOST_RECORDS", 2)
    waiting, failures = [], []
    for _ in range(2):
        waiting.append(await client.enqueue(TOPIC, RECORD))
        failures.append(client.failure)
    await client.close()
    assert failures == [None, "sequence_space"]
    assert len(await asyncio.gather(*waiting, return_exceptions=True)) == 2
