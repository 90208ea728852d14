"""What a failed send means to its caller."""

import asyncio
from collections.abc import Awaitable
from typing import cast

import pytest
from aiokafka.errors import KafkaError, MessageSizeTooLargeError, ProducerClosed

from shared.kafka.producer import RecordTooLarge, SendUnknown, SupervisedProducer
from shared.kafka.producer_client import ProducerClient
from shared.kafka.records import OutgoingRecord, Position
from shared.settings import KafkaSettings

TOPIC = "theirs"


class FailingClient:
    """Takes a record, is replaced by another client, and fails it."""

    def __init__(self, producer: SupervisedProducer, error: KafkaError) -> None:
        self._producer = producer
        self._error = error

    async def topics(self) -> frozenset[str]:
        return frozenset({TOPIC})

    async def enqueue(self, topic: str, record: OutgoingRecord) -> Awaitable[Position]:
        self._producer._client = cast("ProducerClient", FailingClient(self._producer, self._error))
        future: asyncio.Future[Position] = asyncio.get_running_loop().create_future()
        future.set_exception(self._error)
        return future


async def send_to(error: KafkaError) -> None:
    producer = SupervisedProducer(KafkaSettings())
    producer._client = cast("ProducerClient", FailingClient(producer, error))
    await producer.send(OutgoingRecord(topic=TOPIC, key=None, value=b"x"))


async def test_a_record_that_a_replaced_client_held_may_be_written() -> None:
    """It was once called refused for ever, so that a result became a failure when a producer was replaced."""
    with pytest.raises(SendUnknown):
        await send_to(ProducerClosed())


async def test_a_record_that_the_broker_finds_too_large_is_told_from_other_refusals() -> None:
    with pytest.raises(RecordTooLarge):
        await send_to(MessageSizeTooLargeError())
