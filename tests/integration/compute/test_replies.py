"""Answers on topics that producers name: where they are allowed, and what happens where not."""

import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from prometheus_client import REGISTRY

from services.compute.settings import ComputeSettings
from shared.domain.requests import RequestSucceeded
from shared.domain.types import Mode
from tests.integration.compute.services import computing, running
from tests.integration.compute.support import Log, bench, hazard, nap
from tests.integration.kafka.support import replaced, until

pytestmark = pytest.mark.kafka


def counted(outcome: str) -> float:
    return REGISTRY.get_sample_value("consuma_replies_total", {"outcome": outcome}) or 0.0


async def create(settings: ComputeSettings, name: str, **config: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.kafka)
    await admin.start()
    try:

        async def exists() -> bool:
            await admin.create_topics([NewTopic(name, 1, 1, topic_configs=config)])
            return name in await admin.list_topics()

        await until(exists)
    finally:
        await admin.close()


async def test_a_producers_own_topic_gets_the_outcome_with_the_correlation(settings: ComputeSettings) -> None:
    mine = f"{settings.topic_prefix}replies.mine"
    await create(settings, mine)
    log = Log(settings, mine, 1)
    async with bench(settings, log) as made, running(settings):
        request = nap(1, 3)
        await made.send(request, headers=[("reply-topic", mine.encode()), ("correlation-id", b"\x00\x01")])
        await until(lambda: bool(log.records))
        assert log.records[0].header("correlation-id") == b"\x00\x01"
        reply = log.events()[0]
        assert isinstance(reply, RequestSucceeded)
        assert (reply.request_id, reply.result) == (request.request_id, '{"value":3}')
        assert log.records[0].value == made.results.records[0].value


@pytest.mark.parametrize(
    ("topic", "outcome"),
    [
        ("{prefix}replies.absent", "refused"),
        ("{prefix}replies.\x00", "forbidden"),
        ("{prefix}replies", "forbidden"),
        ("{prefix}requests", "forbidden"),
        ("{prefix}callbacks", "forbidden"),
        ("__consumer_offsets", "forbidden"),
        ("elsewhere", "forbidden"),
    ],
)
async def test_other_topics_get_nothing_and_the_request_ends_all_the_same(
    settings: ComputeSettings, topic: str, outcome: str
) -> None:
    name = topic.format(prefix=settings.topic_prefix)
    before = counted(outcome)
    async with computing(settings) as made:
        request, next_one = nap(1, 3), nap(1, 4)
        await made.send(request, headers=[("reply-topic", name.encode())], partition=0)
        await made.send(next_one, partition=0)
        assert await made.result(request) == {"value": 3}
        assert await made.result(next_one) == {"value": 4}
        await until(lambda: counted(outcome) == before + 1)
        assert not made.replies.records


async def test_even_a_wide_prefix_allows_no_topic_of_our_own(settings: ComputeSettings) -> None:
    before = counted("forbidden")
    async with computing(settings, reply_topics="") as made:
        request = nap(1)
        own = f"{settings.topic_prefix}requests.dlq".encode()
        await made.send(request, headers=[("reply-topic", own), ("reply-partition", b"0")])
        await made.outcome(request)
        await until(lambda: counted("forbidden") == before + 1)


async def test_a_topic_that_refuses_its_replies_disturbs_nobody(settings: ComputeSettings) -> None:
    """Neither the outcomes, which go over another client, nor the replies to topics of others."""
    tiny, theirs = f"{settings.topic_prefix}replies.tiny", f"{settings.topic_prefix}replies.theirs"
    await create(settings, tiny, **{"max.message.bytes": "200"})
    await create(settings, theirs)
    refused, lost, clients = counted("refused"), counted("lost"), replaced("producer")
    log = Log(settings, theirs, 1)
    async with bench(settings, log) as made, running(settings):
        requests = [nap(1, value) for value in range(100)]
        for number, each in enumerate(requests):
            await made.send(each, headers=[("reply-topic", (theirs if number % 2 else tiny).encode())])
        assert set((await made.ended(requests)).values()) == {1}
        await until(lambda: counted("refused") == refused + 50)
        await until(lambda: len(log.records) == 50)
    assert (counted("lost"), replaced("producer")) == (lost, clients)


async def test_replies_beyond_the_bound_are_dropped_and_counted(settings: ComputeSettings) -> None:
    before = counted("dropped")
    headers = [
        ("reply-topic", f"{settings.topic_prefix}replies".encode()),
        ("reply-partition", b"0"),
        ("correlation-id", b"c"),
    ]
    async with computing(settings, replies_in_flight=1) as made:
        first = nap(200)
        await made.send(first, mode=Mode.SYNC, headers=headers)
        for _ in range(20):
            await made.send(first, mode=Mode.SYNC, headers=headers)
        await until(lambda: len(made.replies.records) + counted("dropped") - before == 21)
        assert counted("dropped") > before
        assert made.replies.records


async def test_a_failure_is_answered_too(settings: ComputeSettings) -> None:
    async with computing(settings) as made:
        request = hazard("raise_error")
        own = f"{settings.topic_prefix}replies".encode()
        await made.send(request, headers=[("reply-topic", own), ("reply-partition", b"0")])
        await until(lambda: bool(made.replies.records))
        assert made.replies.events() == made.outcomes(request)
