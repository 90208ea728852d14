"""What other clients send, however they send it, has one outcome; what is no request, a dead letter."""

import asyncio
import base64
import hashlib
import json
import secrets
import uuid

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from confluent_kafka import KafkaError

from shared.domain.identity import id_of_reference
from shared.domain.requests import RequestFailed
from shared.domain.types import Mode
from shared.kafka.topics import Topic, topic_name
from shared.settings import ServiceSettings
from tests.integration.producers.support import HASH, Outcomes, Sender, digest, envelope, until

pytestmark = [pytest.mark.kafka]


def hashing(number: int, **more: str) -> dict[str, object]:
    return {"operation": "hash_chain", "input": {"seed": str(number), "rounds": 2}, **more}


def references(count: int) -> list[str]:
    mark = secrets.token_hex(4)
    return [f"{mark}-{number}" for number in range(count)]


async def test_every_mode_is_read(settings: ServiceSettings, outcomes: Outcomes) -> None:
    bare, named, binary, structured = references(4)
    sender = Sender(settings)
    sender.send({**HASH, "client_reference": bare})
    sender.send({**HASH, "source": "shop", "id": named})
    sender.send(HASH, headers=envelope("shop", binary))
    event = {
        "specversion": "1.0",
        "type": "consuma.request.submitted.v1",
        "source": "shop",
        "id": structured,
        "data": HASH,
    }
    sender.send(event, headers={"content-type": "application/cloudevents+json; charset=utf-8"})
    await sender.flush()
    await outcomes.until_known(bare, named, binary, structured)
    expected = {"digest": digest("consuma", 3), "rounds": 3}
    assert outcomes.results(bare, named, binary, structured) == [expected] * 4
    for reference in (named, binary, structured):
        [outcome] = outcomes.by_reference[reference]
        assert (outcome.request_id, outcome.source) == (id_of_reference("shop", reference), "shop")
        assert outcome.mode is Mode.ASYNC
    [outcome] = outcomes.by_reference[bare]
    assert outcome.source == "kafka"
    assert uuid.UUID(outcome.request_id).version == 5


@pytest.mark.parametrize("key", [None, "", "customer-7"], ids=str)
async def test_any_key_and_any_partitioner(
    settings: ServiceSettings, outcomes: Outcomes, key: str | None
) -> None:
    """Without a partition librdkafka chooses by CRC32, or at random."""
    wanted = references(20)
    sender = Sender(settings)
    for number, reference in enumerate(wanted):
        sender.send(hashing(number, id=reference), key=key)
    await sender.flush()
    await outcomes.until_known(*wanted)
    assert [each["digest"] for each in outcomes.results(*wanted)] == [
        digest(str(number), 2) for number in range(20)
    ]


@pytest.mark.parametrize("codec", ["gzip", "snappy", "lz4", "zstd"])
async def test_compressed_batches(settings: ServiceSettings, outcomes: Outcomes, codec: str) -> None:
    wanted = references(200)
    sender = Sender(settings, **{"compression.type": codec})
    for number, reference in enumerate(wanted):
        sender.send(hashing(number, id=reference), partition=0)
    await sender.flush()
    await outcomes.until_known(*wanted)
    assert [each["digest"] for each in outcomes.results(*wanted)] == [
        digest(str(number), 2) for number in range(200)
    ]


@pytest.mark.parametrize("codec", ["gzip", "zstd"])
async def test_a_bomb_is_refused_to_its_producer(
    settings: ServiceSettings, outcomes: Outcomes, codec: str
) -> None:
    """A few kilobytes that would inflate to 100 MB in every reader."""
    [after] = references(1)
    config: dict[str, str | int] = {"compression.type": codec, "message.max.bytes": 200_000_000}
    bomber = Sender(settings, **config)
    bomber.send(b" " * 100_000_000, partition=0)
    await bomber.flush()
    assert bomber.refused == [KafkaError.MSG_SIZE_TOO_LARGE]
    sender = Sender(settings)
    sender.send({**HASH, "id": after}, partition=0)
    await sender.flush()
    await outcomes.until_known(after)


async def test_a_transaction_counts_once_it_is_committed(
    settings: ServiceSettings, outcomes: Outcomes
) -> None:
    committed, aborted, after = references(5), references(5), references(2)
    for wanted, commit in ((aborted, False), (committed, True)):
        config: dict[str, str | int] = {
            "transactional.id": f"t-{secrets.token_hex(4)}",
            "transaction.timeout.ms": 15_000,  # the most that the broker is set to allow
        }
        sender = Sender(settings, **config)
        await sender.in_transaction([{**HASH, "id": each} for each in wanted], commit=commit)
    plain = Sender(settings)
    for partition, each in enumerate(after):
        plain.send({**HASH, "id": each}, partition=partition)
    await plain.flush()
    await outcomes.until_known(*committed, *after)
    assert not outcomes.by_reference.keys() & set(aborted)


async def test_repeats_of_an_id_have_one_outcome(settings: ServiceSettings, outcomes: Outcomes) -> None:
    """In one batch, later, with another body, from another partition: the first is computed."""
    [reference, last] = references(2)
    sender = Sender(settings)
    for _ in range(5):
        sender.send({**HASH, "source": "shop", "id": reference}, partition=0)
    await sender.flush()
    await outcomes.until_known(reference)
    sender.send({**HASH, "source": "shop", "id": reference}, partition=0)
    sender.send(hashing(1, source="shop", id=reference), partition=0)
    sender.send({**HASH, "source": "other", "id": reference}, partition=0)
    sender.send({**HASH, "id": last}, partition=0)
    await sender.flush()
    await outcomes.until_known(last)
    await until(lambda: len(outcomes.by_reference[reference]) >= 2)
    shop, other = sorted(outcomes.by_reference[reference], key=lambda each: each.source, reverse=True)
    assert (shop.source, other.source) == ("shop", "other")
    assert shop.request_id != other.request_id


@pytest.mark.parametrize(
    ("value", "headers", "reason"),
    [
        (b"", {}, "malformed_json"),
        (None, {}, "malformed_json"),
        (b"\x00\xff", {}, "malformed_json"),
        (b'{"operation":NaN}', {}, "malformed_json"),
        (b'{"operation":"hash_chain","input":{"seed":"\\ud800"}}', {}, "malformed_json"),
        (b"[" * 900_000, {}, "malformed_json"),
        (b"[]", {}, "invalid_request"),
        (b"{}", {}, "invalid_request"),
        (b'{"operation":"hash_chain","callback_url":"ftp://x"}', {}, "invalid_request"),
        (b'{"operation":"hash_chain","callback_url":"http://u:p@x/"}', {}, "invalid_request"),
        (json.dumps(HASH).encode(), {"ce_specversion": "1.0", "ce_type": "x"}, "unknown_event_type"),
        (b"{}", {"content-type": "application/cloudevents+json"}, "invalid_envelope"),
        (b"{", {"content-type": "application/cloudevents+json"}, "malformed_json"),
    ],
    ids=lambda value: str(value)[:40],
)
async def test_what_is_no_request_is_kept_with_the_reason(
    settings: ServiceSettings,
    outcomes: Outcomes,
    value: bytes | None,
    headers: dict[str, str],
    reason: str,
) -> None:
    [after] = references(1)
    sender = Sender(settings)
    sender.send(value, headers=headers, partition=1, topic=Topic.REQUESTS_SYNC, key="k")
    sender.send({**HASH, "id": after}, partition=1, topic=Topic.REQUESTS_SYNC)
    await sender.flush()
    await outcomes.until_known(after)
    await until(lambda: bool(outcomes.letters))
    [letter] = outcomes.letters
    assert letter.reason == reason
    assert letter.message
    assert letter.origin.startswith(f"{topic_name(settings, Topic.REQUESTS_SYNC)}-1-")
    assert letter.value_bytes == len(value or b"")
    assert letter.sha256 == hashlib.sha256(value or b"").hexdigest()
    assert letter.value_base64 == (None if value is None else base64.b64encode(value).decode())
    assert base64.b64decode(letter.key_base64 or "") == b"k"


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"operation": "nope"}, "unknown_operation"),
        ({"operation": "hash_chain", "input": {"seed": 7}}, "invalid_input"),
    ],
    ids=str,
)
async def test_what_can_be_identified_fails_with_an_outcome_too(
    settings: ServiceSettings, outcomes: Outcomes, body: dict[str, object], code: str
) -> None:
    """So that its submitter hears of it."""
    [reference] = references(1)
    sender = Sender(settings)
    sender.send({**body, "id": reference})
    await sender.flush()
    await outcomes.until_known(reference)
    [outcome] = outcomes.by_reference[reference]
    assert isinstance(outcome, RequestFailed)
    assert outcome.error.code == code
    await until(lambda: [each.request_id for each in outcomes.letters] == [outcome.request_id])


async def test_a_reply_topic_that_is_not_allowed_or_missing_is_ignored(
    settings: ServiceSettings, outcomes: Outcomes
) -> None:
    """Else a record could have us write into our own topics, or wait for topics that are not there."""
    forbidden = [topic_name(settings, topic) for topic in (Topic.REQUESTS, Topic.CALLBACKS, Topic.REPLIES)]
    missing = [
        f"{settings.topic_prefix}replies.{secrets.token_hex(4)}",
        "__consumer_offsets",
        "x" * 300,
        "\n",
    ]
    wanted = references(7)
    before = await ends(settings)
    sender = Sender(settings)
    for reference, topic in zip(wanted, forbidden + missing, strict=True):
        headers = envelope("shop", reference, **{"reply-topic": topic, "correlation-id": "c"})
        sender.send(HASH, headers=headers, topic=Topic.REQUESTS_SYNC)
    await sender.flush()
    await outcomes.until_known(*wanted)
    assert len(outcomes.results(*wanted)) == 7
    assert await ends(settings) == before


async def ends(settings: ServiceSettings) -> int:
    """Records in the topics that nobody may have us write to."""
    topics = [topic_name(settings, each) for each in (Topic.REQUESTS, Topic.CALLBACKS, Topic.REPLIES)]
    sources = [TopicPartition(topic, number) for topic in topics for number in range(settings.partitions)]
    async with AIOKafkaConsumer(bootstrap_servers=settings.kafka) as client:
        found = await asyncio.wait_for(client.end_offsets(sources), 30)
    return sum(found.values())
