"""Submit a request from an asyncio program and wait for its reply: request-reply over Kafka alone."""

import asyncio
import json
import os
import uuid

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import TopicAlreadyExistsError, for_code

KAFKA = os.environ.get("CONSUMA_KAFKA", "127.0.0.1:9092")
PREFIX = os.environ.get("CONSUMA_TOPIC_PREFIX", "consuma.")
REPLY_TOPIC = f"{PREFIX}replies.aiokafka-example"
REQUEST = {"operation": "hash_chain", "input": {"seed": "consuma", "rounds": 1000}}
WAIT_S = 60.0


async def main() -> None:
    """Submit one request and print its outcome."""
    await create_reply_topic()
    replies = AIOKafkaConsumer(bootstrap_servers=KAFKA, isolation_level="read_committed")
    producer = AIOKafkaProducer(bootstrap_servers=KAFKA, acks="all", enable_idempotence=True)
    async with replies, producer:
        # Without a group, from the end, and resolved before anything is sent: the reply cannot be missed.
        partition = TopicPartition(REPLY_TOPIC, 0)
        replies.assign([partition])
        await replies.seek_to_end(partition)
        async with asyncio.timeout(WAIT_S):
            print(await submit(producer, replies))


async def submit(producer: AIOKafkaProducer, replies: AIOKafkaConsumer) -> str:
    """Append the request in CloudEvents' binary mode and return the outcome that answers it."""
    correlation_id = uuid.uuid4().hex.encode()
    await producer.send_and_wait(
        f"{PREFIX}requests.sync",
        value=json.dumps(REQUEST).encode(),
        headers=[
            ("ce_specversion", b"1.0"),
            ("ce_type", b"consuma.request.submitted.v1"),
            ("ce_source", b"aiokafka-example"),
            ("ce_id", correlation_id),  # the same source and id are one request, however often they are sent
            ("content-type", b"application/json"),
            ("reply-topic", REPLY_TOPIC.encode()),
            ("correlation-id", correlation_id),
        ],
    )
    async for reply in replies:
        if dict(reply.headers).get("correlation-id") == correlation_id:
            return str(reply.value, "utf-8")
    raise AssertionError("the consumer does not end")


async def create_reply_topic() -> None:
    """Make sure that the topic for replies exists; replies are of use for minutes only."""
    admin = AIOKafkaAdminClient(bootstrap_servers=KAFKA)
    await admin.start()
    try:
        topic = NewTopic(
            REPLY_TOPIC,
            num_partitions=1,
            replication_factor=1,  # 3 where there are three brokers
            topic_configs={"retention.ms": "600000", "max.message.bytes": "4194304"},
        )
        answer = await admin.create_topics([topic])
        for _, code, *_ in answer.topic_errors:
            error = for_code(code)
            if code and error is not TopicAlreadyExistsError:
                raise error
    finally:
        await admin.close()


if __name__ == "__main__":
    asyncio.run(main())
