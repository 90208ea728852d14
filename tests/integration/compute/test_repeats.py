"""The same request again: computed once, answered every time."""

import pytest

from services.compute.settings import ComputeSettings
from shared.domain.requests import FailureCode
from shared.domain.types import Mode
from shared.kafka.topics import Topic, topic_name
from tests.integration.compute.services import computing
from tests.integration.compute.support import Bench, hazard, nap, wanted
from tests.integration.kafka.support import until

pytestmark = pytest.mark.kafka


def reply_headers(made: Bench, correlation: bytes) -> list[tuple[str, bytes]]:
    topic = topic_name(made.settings, Topic.REPLIES).encode()
    return [("reply-topic", topic), ("reply-partition", b"1"), ("correlation-id", correlation)]


def answered(made: Bench) -> list[bytes]:
    return sorted(record.header("correlation-id") or b"" for record in made.replies.records)


async def test_repeats_in_flight_and_after_the_outcome_are_answered_without_computing(
    settings: ComputeSettings,
) -> None:
    async with computing(settings) as made:
        request = nap(300, 5)
        await made.send(request, partition=0, headers=reply_headers(made, b"a"))
        await made.send(request, partition=1, headers=reply_headers(made, b"b"))
        await made.send(request, mode=Mode.SYNC, headers=reply_headers(made, b"c"))
        await made.outcome(request)
        await made.send(request, headers=reply_headers(made, b"d"))
        await until(lambda: len(made.replies.records) == 4)
        assert answered(made) == [b"a", b"b", b"c", b"d"]
        assert len({record.value for record in made.replies.records}) == 1
        assert len(made.outcomes(request)) == 1


async def test_a_repeat_with_another_body_gets_the_first_ones_outcome(settings: ComputeSettings) -> None:
    async with computing(settings) as made:
        first, second = nap(1, 1, id="same"), nap(1, 2, id="same")
        await made.send(first, partition=0)
        assert await made.result(first) == {"value": 1}
        await made.send(second, headers=reply_headers(made, b"x"))
        await until(lambda: bool(made.replies.records))
        assert len(made.outcomes(first)) == 1


async def test_a_repeat_of_a_refused_request_is_set_aside_once(settings: ComputeSettings) -> None:
    async with computing(settings) as made:
        request, last = wanted("no_such", {}), nap()
        await made.send(request, request, request, last, partition=0)
        await made.failure(request, FailureCode.UNKNOWN_OPERATION)
        await made.outcome(last)
        await made.dead_letters(1)


async def test_what_is_forgotten_is_computed_again(settings: ComputeSettings) -> None:
    async with computing(settings, recent_requests=2) as made:
        requests = [nap(0, value) for value in range(3)]
        for each in requests:
            await made.send(each, partition=0)
            await made.outcome(each)
        await made.send(requests[2], requests[0], partition=0)
        await until(lambda: len(made.outcomes(requests[0])) == 2)
        assert len(made.outcomes(requests[2])) == 1


async def test_memory_is_bounded_in_bytes_too(settings: ComputeSettings) -> None:
    async with computing(settings, recent_bytes=3_000_000) as made:
        first, second = hazard("return_two_mib"), hazard("return_two_mib")
        await made.send(first, partition=0)
        await made.outcome(first)
        await made.send(second, partition=0)
        await made.outcome(second)
        await made.send(second, first, partition=0)
        await until(lambda: len(made.outcomes(first)) == 2)
        assert len(made.outcomes(second)) == 1
