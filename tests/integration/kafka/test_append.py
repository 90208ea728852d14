"""What must be written is written once, whatever happens to the broker and to the client meanwhile."""

import asyncio
import secrets
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable

import pytest

from shared.kafka import topics_admin
from shared.kafka.producer import SendUnknown, SupervisedProducer
from shared.kafka.producer_client import ProducerClient
from shared.kafka.reader import read_tail
from shared.kafka.records import OutgoingRecord, Partition
from shared.kafka.topics import Topic, topic_name
from shared.settings import KafkaSettings, ServiceSettings
from tests.integration.kafka.own_broker import OwnBroker
from tests.integration.kafka.support import replaced, report, until

pytestmark = [pytest.mark.kafka, pytest.mark.slow]

SEND_TIMEOUT_MS = 1_000
OUTAGE_S = 6.0
"""Many times the limit of a send."""

RECORDS = 60


@pytest.fixture
async def producer(settings: ServiceSettings) -> AsyncIterator[SupervisedProducer]:
    made = SupervisedProducer(settings.model_copy(update={"send_timeout_ms": SEND_TIMEOUT_MS}))
    await made.start()
    yield made
    await made.stop()


def client_of(producer: SupervisedProducer) -> ProducerClient:
    assert producer._client is not None
    return producer._client


def append(producer: SupervisedProducer, number: int) -> "asyncio.Task[object]":
    value = str(number).encode()
    return asyncio.create_task(producer.append(OutgoingRecord(topic=Topic.RESULTS, key=value, value=value)))


async def copies(settings: KafkaSettings) -> Counter[bytes]:
    """How often each record lies in the log."""
    found: Counter[bytes] = Counter()
    for number in range(settings.partitions):
        source = Partition(topic_name(settings, Topic.RESULTS), number)
        found.update([each.value or b"" async for each in read_tail(settings, source, 1_000)])
    return found


@pytest.mark.parametrize(
    ("begin", "end"),
    [(OwnBroker.kill, OwnBroker.start), (OwnBroker.freeze, OwnBroker.thaw)],
    ids=["killed", "hanging"],
)
async def test_an_outage_leaves_one_copy_of_each_record(
    broker: OwnBroker, begin: Callable[[OwnBroker], None], end: Callable[[OwnBroker], object]
) -> None:
    settings = KafkaSettings(
        kafka=broker.address,
        topic_prefix=f"t-{secrets.token_hex(4)}.",
        partitions=4,
        send_timeout_ms=SEND_TIMEOUT_MS,
    )
    await topics_admin.apply(settings)
    producer = SupervisedProducer(settings)
    await producer.start()
    try:
        await append(producer, 0)
        before = replaced("producer")
        appends = [append(producer, number) for number in range(1, RECORDS // 2)]
        begin(broker)
        appends += [append(producer, number) for number in range(RECORDS // 2, RECORDS)]
        await until(lambda: client_of(producer).silent_s() > OUTAGE_S)
        ended = end(broker)
        if asyncio.iscoroutine(ended):
            await ended
        opened = time.monotonic()
        await asyncio.gather(*appends)
        report(f"everything is written {time.monotonic() - opened:.1f} s after the broker came back")
        assert time.monotonic() - opened < 10
        assert await copies(settings) == Counter({str(number).encode(): 1 for number in range(RECORDS)})
        assert replaced("producer") == before
    finally:
        await producer.stop()


async def test_a_client_that_hangs_for_good_is_replaced(
    settings: ServiceSettings, producer: SupervisedProducer
) -> None:
    """Its connections are gone and it makes no others, while the broker answers everybody else."""
    await append(producer, 0)
    before = replaced("producer", "silence")
    library = client_of(producer)._client.client
    async with library._get_conn_lock:
        for connection in list(library._conns.values()):
            connection.close()
        began = time.monotonic()
        await asyncio.gather(*(append(producer, number) for number in range(1, RECORDS)))
        report(f"written {time.monotonic() - began:.1f} s after the client had begun to hang")
    assert replaced("producer", "silence") == before + 1
    assert await copies(settings) == Counter({str(number).encode(): 1 for number in range(RECORDS)})


async def test_a_record_whose_send_timed_out_lies_before_those_that_were_given_later(
    settings: ServiceSettings, producer: SupervisedProducer
) -> None:
    """The same client holds them: an outcome cannot overtake the announcement of its run there."""
    await producer.prepare(Topic.RESULTS)
    library = client_of(producer)._client.client
    async with library._get_conn_lock:
        for connection in list(library._conns.values()):
            connection.close()
        with pytest.raises(SendUnknown):
            await producer.send(OutgoingRecord(topic=Topic.RESULTS, key=b"k", value=b"first"))
        later = asyncio.create_task(
            producer.append(OutgoingRecord(topic=Topic.RESULTS, key=b"k", value=b"second"))
        )
        await asyncio.sleep(0)
    position = await later
    source = Partition(position.topic, position.partition)
    assert [each.value async for each in read_tail(settings, source, 10)] == [b"first", b"second"]


@pytest.mark.parametrize("task", ["sender", "metadata"])
async def test_a_client_whose_own_task_has_ended_is_replaced(
    settings: ServiceSettings, producer: SupervisedProducer, task: str
) -> None:
    """Nothing tells of it: what it is given waits for ever."""
    await append(producer, 0)
    before = replaced("producer", f"dead_{task}_task")
    library = client_of(producer)._client
    (library._sender._sender_task if task == "sender" else library.client._sync_task).cancel()
    began = time.monotonic()
    await asyncio.gather(*(append(producer, number) for number in range(1, RECORDS)))
    await until(lambda: replaced("producer", f"dead_{task}_task") == before + 1)
    assert time.monotonic() - began < 5
    assert await copies(settings) == Counter({str(number).encode(): 1 for number in range(RECORDS)})


async def test_a_client_that_has_failed_is_not_ready(producer: SupervisedProducer) -> None:
    client = client_of(producer)
    was_ready = producer.ready
    client.fail("test")
    assert (was_ready, producer.ready) == (True, False)
    await until(lambda: producer.ready)
    assert client_of(producer) is not client
