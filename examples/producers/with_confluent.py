"""Submit a request with confluent-kafka and wait for its reply: request-reply over Kafka alone."""

import json
import os
import time
import uuid

from confluent_kafka import OFFSET_END, Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

KAFKA = os.environ.get("CONSUMA_KAFKA", "127.0.0.1:9092")
PREFIX = os.environ.get("CONSUMA_TOPIC_PREFIX", "consuma.")
REPLY_TOPIC = f"{PREFIX}replies.confluent-example"
REQUEST = {"operation": "hash_chain", "input": {"seed": "consuma", "rounds": 1000}}
WAIT_S = 60.0


def main() -> None:
    """Submit one request and print its outcome."""
    create_reply_topic()
    replies = Consumer(
        {
            "bootstrap.servers": KAFKA,
            "group.id": "unused",  # the client demands one; no group is joined and nothing is committed
            "enable.auto.commit": False,
            "isolation.level": "read_committed",
        }
    )
    try:
        # The end is looked up before anything is sent: the reply cannot be missed.
        _, end = replies.get_watermark_offsets(TopicPartition(REPLY_TOPIC, 0), timeout=WAIT_S)
        replies.assign([TopicPartition(REPLY_TOPIC, 0, end if end >= 0 else OFFSET_END)])
        correlation_id = uuid.uuid4().hex.encode()
        submit(correlation_id)
        print(answer(replies, correlation_id))
    finally:
        replies.close()


def submit(correlation_id: bytes) -> None:
    """Append the request in CloudEvents' structured mode, and wait for the acknowledgement."""
    failures: list[KafkaError] = []
    event = {
        "specversion": "1.0",
        "type": "consuma.request.submitted.v1",
        "source": "confluent-example",
        "id": correlation_id.decode(),  # the same source and id are one request, however often they are sent
        "data": REQUEST,
    }
    producer = Producer({"bootstrap.servers": KAFKA, "enable.idempotence": True, "compression.type": "zstd"})
    producer.produce(
        f"{PREFIX}requests.sync",
        value=json.dumps(event).encode(),
        headers={
            "content-type": "application/cloudevents+json",
            "reply-topic": REPLY_TOPIC,
            "correlation-id": correlation_id,
        },
        on_delivery=lambda error, _: failures.append(error) if error else None,
    )
    if producer.flush(WAIT_S) or failures:
        raise SystemExit(f"the request was not acknowledged: {failures or 'no answer'}")


def answer(replies: Consumer, correlation_id: bytes) -> str:
    """The outcome with the correlation id."""
    give_up_at = time.monotonic() + WAIT_S
    while time.monotonic() < give_up_at:
        reply = replies.poll(1.0)
        if reply is None:
            continue
        if reply.error():
            raise KafkaException(reply.error())
        if dict(reply.headers() or ()).get("correlation-id") == correlation_id:
            return (reply.value() or b"").decode()
    raise SystemExit("no reply: is a compute service running?")


def create_reply_topic() -> None:
    """Make sure that the topic for replies exists; replies are of use for minutes only."""
    config = {"retention.ms": "600000", "max.message.bytes": "4194304"}
    topic = NewTopic(REPLY_TOPIC, num_partitions=1, replication_factor=-1, config=config)
    admin = AdminClient({"bootstrap.servers": KAFKA})
    for created in admin.create_topics([topic]).values():
        try:
            created.result()
        except KafkaException as error:
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise
    # The broker may know of it a moment later than it says so.
    while not admin.list_topics(REPLY_TOPIC, timeout=WAIT_S).topics[REPLY_TOPIC].partitions:
        time.sleep(0.1)


if __name__ == "__main__":
    main()
