"""What the drill's producers append, and what it finds in the log, on a real broker."""

import secrets
from collections.abc import AsyncIterator
from typing import Final

import orjson
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, OffsetAndMetadata, TopicPartition

from shared.domain.callbacks import CallbackDeadLettered
from shared.domain.identity import id_of_reference
from shared.domain.requests import Failure, FailureCode, RequestFailed, RequestSucceeded
from shared.domain.retry_policy import GiveUpReason
from shared.domain.types import JsonText, Mode, RequestFacts, RequestId
from shared.events.codec import Event, Origin, encode
from shared.kafka import topics_admin
from shared.kafka.topics import Topic, topic_name
from shared.settings import KafkaSettings
from shared.testing.drill.judging.evidence import dead_letters, lag_left, outcomes_in_log, records_in
from shared.testing.drill.judging.ledger import Ledger
from shared.testing.drill.submitting.producers import ConfluentProducer
from shared.testing.drill.submitting.transactions import TransactionalProducer
from shared.testing.drill.submitting.workload import Job, Told
from tests.integration.kafka.support import delete_topics

pytestmark = [pytest.mark.kafka]

URL: Final = "http://127.0.0.1:9/hook"
ORIGIN: Final = Origin(event_id="e", source="test", now_ms=1)


@pytest.fixture
async def log(kafka_address: str) -> AsyncIterator[KafkaSettings]:
    found = KafkaSettings(kafka=kafka_address, topic_prefix=f"d-{secrets.token_hex(4)}.", partitions=2)
    await topics_admin.apply(found)
    yield found
    await delete_topics(found)


def some_jobs(name: str, count: int) -> list[Job]:
    return [Job(f"{name}-{number}", Mode.ASYNC, "nap", {"ms": number}) for number in range(count)]


def address(_: Job) -> str:
    return URL


async def references(log: KafkaSettings) -> set[str]:
    """The `ce_id` of every committed request."""
    found = [record.header("ce_id") async for record in records_in(log, Topic.REQUESTS)]
    return {each.decode() for each in found if each is not None}


async def test_committed_records_are_promised_and_aborted_ones_are_not(log: KafkaSettings) -> None:
    ledger = Ledger()
    producer = TransactionalProducer(log, "drill", address, seed=1)
    committed, aborted = some_jobs("committed", 5), some_jobs("aborted", 100)
    assert await producer.abort(aborted, ledger)
    assert await producer.commit(committed, ledger)
    assert ledger.jobs == {id_of_reference("drill", job.reference): job for job in committed}
    assert ledger.aborted == {job.reference for job in aborted}
    assert await references(log) == {job.reference for job in committed}


async def test_a_second_producer_ends_what_the_first_has_left_open(log: KafkaSettings) -> None:
    ledger = Ledger()
    first = TransactionalProducer(log, "drill", address, seed=1)
    second = TransactionalProducer(log, "drill", address, seed=2)
    assert await first.commit(some_jobs("first", 1), ledger)
    assert await second.commit(some_jobs("second", 1), ledger)
    fenced = some_jobs("fenced", 1)
    assert not await first.commit(fenced, ledger)
    assert ledger.unknown == {"fenced-0": fenced[0]}
    assert await first.commit(fenced, ledger)
    assert ledger.unknown == {}
    assert await references(log) == {"first-0", "second-0", "fenced-0"}


async def test_what_the_log_acknowledged_is_promised(log: KafkaSettings) -> None:
    ledger, batch = Ledger(), some_jobs("plain", 20)
    assert await ConfluentProducer(log, "drill", address).submit(batch, ledger) == []
    assert ledger.jobs.keys() == ledger.called_back
    assert await references(log) == {job.reference for job in batch}


async def test_what_no_broker_acknowledges_stays_unknown() -> None:
    nowhere = KafkaSettings(kafka="127.0.0.1:9")
    ledger, batch = Ledger(), some_jobs("plain", 2)
    producer = ConfluentProducer(nowhere, "drill", address, patience_ms=500)
    assert await producer.submit(batch, ledger) == batch
    assert ledger.jobs == {}
    assert ledger.unknown.keys() == {"plain-0", "plain-1"}


async def test_every_terminal_record_is_found_in_its_order(log: KafkaSettings) -> None:
    first = succeeded("1", 7)
    late = failed("1", FailureCode.TIMEOUT)
    await append(log, Topic.RESULTS, first, late, failed("2", FailureCode.CRASHED))
    found = await outcomes_in_log(log)
    assert [each.told for each in found["1"]] == [Told("succeeded", 7), Told("failed", code="timeout")]
    assert [each.told for each in found["2"]] == [Told("failed", code="crashed")]
    assert found["1"][0].reference == "reference-1"


async def test_callbacks_that_were_given_up_are_found(log: KafkaSettings) -> None:
    letter = CallbackDeadLettered(**facts("1"), url=URL, reason=GiveUpReason.TERMINAL, attempts=1, at_ms=1)
    await append(log, Topic.CALLBACKS, letter)
    assert await dead_letters(log) == {"1"}


async def test_only_records_that_can_be_read_count_as_lag(log: KafkaSettings) -> None:
    ledger = Ledger()
    assert await lag_left(log) == {}
    producer = TransactionalProducer(log, "drill", address, seed=1)
    assert await producer.abort(some_jobs("aborted", 50), ledger)
    assert await lag_left(log) == {}
    assert await producer.commit(some_jobs("committed", 5), ledger)
    assert sum((await lag_left(log)).values()) == 5
    await commit_ends(log, "compute", Topic.REQUESTS)
    assert await lag_left(log) == {}


def facts(request_id: str) -> RequestFacts:
    return RequestFacts(
        request_id=RequestId(request_id), mode=Mode.ASYNC, source="rest", operation="nap", accepted_at_ms=1
    )


def succeeded(request_id: str, result: int) -> Event:
    text = JsonText(orjson.dumps(result).decode())
    return RequestSucceeded(
        **facts(request_id),
        attempts=1,
        finished_at_ms=2,
        result=text,
        client_reference=f"reference-{request_id}",
    )


def failed(request_id: str, code: FailureCode) -> Event:
    return RequestFailed(
        **facts(request_id), attempts=1, finished_at_ms=2, error=Failure(code=code, message="no")
    )


async def append(log: KafkaSettings, topic: Topic, *events: Event) -> None:
    """All into one partition, in this order."""
    producer = AIOKafkaProducer(bootstrap_servers=log.kafka, acks="all")
    await producer.start()
    try:
        for event in events:
            encoded = encode(event, ORIGIN)
            await producer.send_and_wait(
                topic_name(log, topic),
                encoded.value,
                key=encoded.key,
                headers=list(encoded.headers),
                partition=0,
            )
    finally:
        await producer.stop()


async def commit_ends(log: KafkaSettings, group: str, topic: Topic) -> None:
    """Everything in `topic` counts as read by `group`."""
    client = AIOKafkaConsumer(
        bootstrap_servers=log.kafka, group_id=f"{log.topic_prefix}{group}", enable_auto_commit=False
    )
    await client.start()
    try:
        sources = [TopicPartition(topic_name(log, topic), number) for number in range(log.partitions)]
        client.assign(sources)
        ends = await client.end_offsets(sources)
        await client.commit({source: OffsetAndMetadata(end, "") for source, end in ends.items()})
    finally:
        await client.stop()
