"""Records that are costly to parse: they are judged as any other, and the event loop goes on meanwhile."""

import asyncio
import time
from collections.abc import Iterator

import pytest

from services.compute.settings import ComputeSettings
from shared.domain.identity import id_of_reference
from shared.domain.requests import FailureCode
from shared.domain.types import Mode
from tests.integration.compute.services import computing
from tests.integration.compute.support import SOURCE, Bench, Wanted, nap
from tests.integration.kafka.support import report, until
from tests.support.costly import COSTLY_INPUTS, LONGEST_MS, calm_collector, longest_callback_ms

pytestmark = pytest.mark.kafka

LONG_BYTES = 1_000_000


@pytest.fixture(autouse=True)
def collector() -> Iterator[None]:
    with calm_collector():
        yield


def costly(kind: str, reference: str, size: int = LONG_BYTES) -> Wanted:
    value = b'{"operation":"nap","id":"%s","source":"%s","input":%s}' % (
        reference.encode(),
        SOURCE.encode(),
        COSTLY_INPUTS[kind](size),
    )
    return Wanted(value=value, request_id=id_of_reference(SOURCE, reference))


async def sync_calls_beside(made: Bench, records: list[Wanted]) -> float:
    """The longest of some sync calls while `records` are taken up, in seconds."""
    sending = asyncio.gather(*(made.send(each) for each in records))
    longest = 0.0
    for value in range(10):
        request = nap(0, value)
        began = time.monotonic()
        await made.send(request, mode=Mode.SYNC)
        await made.outcome(request)
        longest = max(longest, time.monotonic() - began)
    await sending
    return longest


@pytest.mark.parametrize("kind", ["lists", "keys", "ones"])
async def test_costly_records_hold_no_sync_call_up(settings: ComputeSettings, kind: str) -> None:
    """Their input does not fit the operation, which only the slot finds out."""
    async with computing(settings) as made:
        rounds = 0

        async def work() -> None:
            nonlocal rounds
            rounds += 1
            records = [costly(kind, f"{rounds}-{number}") for number in range(8)]
            report(f"{kind}: the longest sync call took {await sync_calls_beside(made, records):.3f} s")
            for each in records:
                await made.failure(each, FailureCode.INVALID_INPUT)

        assert await longest_callback_ms(work) < LONGEST_MS


@pytest.mark.parametrize("size", [1_000, LONG_BYTES])
async def test_hostile_records_are_no_requests_whatever_their_size(
    settings: ComputeSettings, size: int
) -> None:
    """No outcome is written for one, since no other reader takes it for a request."""
    async with computing(settings) as made:
        hostile, request = costly("too deep lists", "hostile", size), nap(1)
        await made.send(hostile, partition=0)
        await made.send(request, partition=0)
        [letter] = await made.dead_letters()
        assert (letter.reason, letter.message) == ("malformed_json", "nested deeper than 32 levels")
        assert letter.request_id is None
        await made.outcome(request)
        assert made.outcomes(hostile) == []


async def test_more_headers_than_anybody_needs_make_no_request(settings: ComputeSettings) -> None:
    async with computing(settings) as made:
        most, more = nap(1), nap(2)
        await made.send(most, headers=[("h", b"x")] * 256)
        await made.outcome(most)
        await made.send(more, headers=[("h", b"x")] * 257)
        [letter] = await made.dead_letters()
        assert (letter.reason, letter.message) == (
            "too_many_headers",
            "257 headers; a record may have at most 256",
        )
        await until(lambda: len(made.results.records) == 1)
