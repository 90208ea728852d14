"""Direct producers use transactions as they like: what they abort or leave open stops no one for long."""

import asyncio
import json
import time

import pytest
from confluent_kafka import Producer

from services.compute.settings import ComputeSettings
from shared.kafka.topics import Topic, topic_name
from tests.integration.compute.services import running
from tests.integration.compute.support import Wanted, bench, nap
from tests.integration.kafka.support import until

pytestmark = pytest.mark.kafka

ANSWER_S = 2.0
GAP = 500


def producer(settings: ComputeSettings, name: str) -> Producer:
    made = Producer(
        {
            "bootstrap.servers": settings.kafka,
            "transactional.id": f"{settings.topic_prefix}{name}",
            "transaction.timeout.ms": 10_000,
        }
    )
    made.init_transactions()
    return made


def abort(settings: ComputeSettings, made: Producer, count: int = GAP) -> None:
    """Begin requests, think better of it, and abort them."""
    made.begin_transaction()
    for number in range(count):
        value = json.dumps({"operation": "nap", "input": {"ms": 0, "value": number}}).encode()
        made.produce(topic_name(settings, Topic.REQUESTS), value, partition=0)
    made.flush(10)
    made.abort_transaction()


def submit(settings: ComputeSettings, made: Producer, request: Wanted) -> None:
    made.begin_transaction()
    made.produce(topic_name(settings, Topic.REQUESTS), request.value, partition=0)
    made.commit_transaction()


async def test_a_request_behind_500_aborted_ones_is_answered_within_two_seconds(
    settings: ComputeSettings,
) -> None:
    async with bench(settings) as made, running(settings):
        direct = await asyncio.to_thread(producer, settings, "direct")
        for value in range(3):
            await asyncio.to_thread(abort, settings, direct)
            request = nap(0, value)
            await asyncio.to_thread(submit, settings, direct, request)
            began = time.monotonic()
            assert await made.result(request) == {"value": value}
            assert time.monotonic() - began < ANSWER_S
        assert len(made.results.records) == 3, "what was aborted has no outcome"


async def test_it_is_answered_soon_after_another_producers_open_transaction_ends(
    settings: ComputeSettings,
) -> None:
    async with bench(settings) as made, running(settings):
        direct, other = [await asyncio.to_thread(producer, settings, name) for name in ("direct", "other")]
        other.begin_transaction()
        other.produce(topic_name(settings, Topic.REQUESTS), b"{}", partition=0)
        await asyncio.to_thread(other.flush, 10)
        await asyncio.to_thread(abort, settings, direct)
        request = nap(0, 7)
        await asyncio.to_thread(submit, settings, direct, request)
        elsewhere = nap(0, 8)
        await made.send(elsewhere, partition=1)
        await made.result(elsewhere)
        assert not made.outcomes(request), "it lies behind the open transaction"
        await asyncio.to_thread(other.abort_transaction)
        ended = time.monotonic()
        await until(lambda: bool(made.outcomes(request)))
        assert time.monotonic() - ended < ANSWER_S
