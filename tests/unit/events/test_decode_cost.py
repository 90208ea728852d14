"""No record within the limits keeps an event loop for long: measured in CPU time of the loop's thread."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Final

import pytest

from services.compute.start_throttle import StartThrottle
from services.projector.interpreter import Interpreter
from shared.domain.types import Mode
from shared.events.codec import Origin, encode
from shared.events.dead_letters import dead_letter_of
from shared.events.decoder import SubmissionDecoder
from shared.events.strict_json import INLINE_BYTES
from shared.events.submission import SubmissionError
from shared.events.submit_keys import NO_KEYS
from shared.kafka.records import Headers, Record
from shared.kafka.topics import Topic
from tests.support.costly import COSTLY_INPUTS, LONGEST_MS, calm_collector, costly_body, longest_callback_ms

LONGEST_RECORD: Final = 1_250_000
STRUCTURED: Headers = (("content-type", b"application/cloudevents+json"),)


@pytest.fixture(autouse=True)
def collector() -> Iterator[None]:
    with calm_collector():
        yield


@pytest.fixture
async def decoder() -> AsyncIterator[SubmissionDecoder]:
    made = SubmissionDecoder(NO_KEYS, with_digest=True)
    yield made
    await made.close()


def record_of(value: bytes, headers: Headers = (), offset: int = 0) -> Record:
    return Record("t.requests", 0, offset, 1_000, None, value, headers)


async def decode_all(decoder: SubmissionDecoder, records: Sequence[Record]) -> None:
    """As compute does: every record is begun at once, and waits until it may go on."""
    pace = StartThrottle()

    async def one(record: Record) -> None:
        await pace.step(len(record.value or b""))
        try:
            await decoder.decode(record, Mode.ASYNC)
        except SubmissionError as error:
            letter = dead_letter_of(record, reason=error.reason, message=error.message, now_ms=1)
            encode(letter, Origin(event_id="e", source="/test", now_ms=1))

    await asyncio.gather(*map(one, records))


async def longest_by_kind(
    decoder: SubmissionDecoder,
    records_of: Callable[[str], Sequence[Record]],
    kinds: Iterable[str] = COSTLY_INPUTS,
) -> dict[str, float]:
    """The longest callback for each kind of costly input, where it is too long."""
    found = {}
    for kind in kinds:
        records = records_of(kind)
        found[kind] = await longest_callback_ms(partial(decode_all, decoder, records))
    return {kind: longest for kind, longest in found.items() if longest >= LONGEST_MS}


async def test_a_batch_of_the_longest_records(decoder: SubmissionDecoder) -> None:
    assert not await longest_by_kind(
        decoder, lambda kind: [record_of(costly_body(kind, LONGEST_RECORD), offset=each) for each in range(2)]
    )


async def test_a_batch_of_the_longest_records_that_are_decoded_at_once(decoder: SubmissionDecoder) -> None:
    def records_of(kind: str) -> list[Record]:
        value = costly_body(kind, INLINE_BYTES - 100)
        assert len(value) <= INLINE_BYTES
        return [record_of(value, offset=number) for number in range(16)]

    assert not await longest_by_kind(decoder, records_of)


EVENT: Final = b'{"specversion":"1.0","id":"1","source":"me","type":"consuma.request.submitted.v1","data":'


@pytest.mark.parametrize(
    ("before", "after", "headers"),
    [
        (b'{"operation":"x","more":', b"}", ()),
        (EVENT + b'{"operation":"x","input":', b"}}", STRUCTURED),
        (EVENT + b'{"operation":"x"},"more":', b"}", STRUCTURED),
    ],
    ids=["in the outer object", "in structured mode", "around the data"],
)
async def test_what_is_costly_may_stand_anywhere(
    decoder: SubmissionDecoder, before: bytes, after: bytes, headers: Headers
) -> None:
    assert not await longest_by_kind(
        decoder,
        lambda kind: [record_of(before + COSTLY_INPUTS[kind](LONGEST_RECORD) + after, headers)],
        ("lists", "too deep lists", "no JSON"),
    )


@pytest.mark.parametrize(
    "headers",
    [(("", b""),) * 600_000, (("a", b"x" * 1_200_000),), (("ce_specversion", b"x" * 250),) * 4_800],
    ids=["many", "long", "both"],
)
async def test_headers_of_a_megabyte(decoder: SubmissionDecoder, headers: Headers) -> None:
    records = [record_of(b'{"operation":"x"}', headers, offset=number) for number in range(2)]
    assert await longest_callback_ms(lambda: decode_all(decoder, records)) < LONGEST_MS


@pytest.mark.parametrize("kind", ["lists", "keys", "deep lists"])
async def test_the_projector_interprets_a_batch(kind: str) -> None:
    interpreter = Interpreter(NO_KEYS)
    records = [record_of(costly_body(kind, LONGEST_RECORD))]
    records += [record_of(costly_body(kind, INLINE_BYTES - 100), offset=each) for each in range(1, 20)]
    records += [record_of(b'{"operation":"x"}', offset=each) for each in range(100, 1_100)]

    async def interpret_all() -> None:
        for record in records:
            await interpreter.interpret(Topic.REQUESTS, record)

    assert await longest_callback_ms(interpret_all) < LONGEST_MS
    await interpreter.close()
