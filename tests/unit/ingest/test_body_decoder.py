"""Long bodies are checked by another process, to the same end as here, and never with an untrue answer."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from functools import partial

import pytest

from services.ingest.body_decoder import BodyDecoder, answer_with
from services.ingest.checking import BodyCheck, Wanted
from services.ingest.intake import Intake
from services.ingest.problems import Overloaded, Problem
from shared.domain.types import Mode
from shared.events.decoder_process import DecoderLostError, DecoderProcess
from shared.events.strict_json import INLINE_BYTES
from shared.operations.registry import load_registry
from tests.support.costly import COSTLY_INPUTS, LONGEST_MS, calm_collector, costly_body, longest_callback_ms
from tests.unit.ingest.support import request_of
from tests.unit.ingest.test_intake import bodies

ANSWERS = "tests.support.decoder_answers"
HASH = b'{"operation":"hash_chain","input":{"seed":"a","rounds":2}'

BODIES = {
    "a request": HASH + b"}",
    "with all fields": HASH + b',"timeout":2,"expires_at":"2030-01-01T00:00:00Z","client_reference":"x"}',
    "without an input": b'{"operation":"hash_chain"}',
    "no JSON": HASH,
    "a long integer": b'{"operation":"hash_chain","input":' + b"9" * 30 + b"}",
    "a wrong field": HASH + b',"timeout":-1}',
    "an unknown field": HASH + b',"x":1}',
    "an unknown operation": b'{"operation":"nope"}',
    "a wrong input": b'{"operation":"hash_chain","input":{"seed":1,"rounds":-1}}',
    "too long a timeout": HASH + b',"timeout":4000}',
}


async def judged(check: Callable[[], Awaitable[Wanted]]) -> tuple[object, ...]:
    try:
        wanted = await check()
    except Problem as problem:
        return type(problem), problem.detail, problem.fields
    return wanted.mode, wanted.data, bytes(wanted.data.input), wanted.digest


async def test_long_bodies_are_judged_as_they_are_here() -> None:
    decoder, here = BodyDecoder(), BodyCheck(load_registry())

    async def check(body: bytes, mode: Mode) -> Wanted:
        return here.check(body, mode)

    for name, body in BODIES.items():
        for mode in Mode:
            expected = await judged(partial(check, body, mode))
            assert await judged(partial(decoder.check, body, mode)) == expected, name
    await decoder.close()


def test_lack_of_memory_ends_the_process_and_judges_no_body(monkeypatch: pytest.MonkeyPatch) -> None:
    def check(self: BodyCheck, body: bytes, mode: Mode) -> Wanted:
        raise MemoryError

    monkeypatch.setattr(BodyCheck, "check", check)
    with pytest.raises(MemoryError):
        answer_with(BodyCheck(load_registry()), Mode.ASYNC.encode(), HASH + b"}")


async def test_a_body_that_spins_is_given_up_soon_and_others_are_checked_behind_it() -> None:
    """By the processor's time: the deadline, which a busy machine needs, is a minute away."""
    process = DecoderProcess(ANSWERS, answer_within_s=60.0, most_waiting=10)
    await process.ask(b"", b"warm")
    began = time.monotonic()
    spinning = asyncio.create_task(process.ask(b"", b"spin"))
    others = [asyncio.create_task(process.ask(b"", b"echo %d" % each)) for each in range(5)]
    async with asyncio.timeout(30):
        assert await asyncio.gather(*others) == [b"echo %d" % each for each in range(5)]
    assert time.monotonic() - began > 0.5
    with pytest.raises(DecoderLostError, match="more of the processor than it may"):
        await spinning
    await process.close()


@pytest.mark.parametrize("body", [b"die", b"silent"])
async def test_a_body_that_cannot_be_checked_is_not_accepted_and_not_called_wrong(body: bytes) -> None:
    decoder = BodyDecoder(ANSWERS, answer_within_s=2.0)
    with pytest.raises(Overloaded, match="nothing was accepted"):
        await decoder.check(body, Mode.SYNC)
    await decoder.close()


async def test_beyond_the_queue_bodies_are_refused() -> None:
    decoder = BodyDecoder(ANSWERS)
    waiting = [asyncio.create_task(decoder.check(b"silent", Mode.SYNC)) for _ in range(80)]
    done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    assert all(isinstance(each.exception(), Overloaded) for each in done)
    await decoder.close()
    assert all(
        isinstance(each, Overloaded) for each in await asyncio.gather(*waiting, return_exceptions=True)
    )


@pytest.fixture
def calm() -> Iterator[None]:
    with calm_collector():
        yield


@pytest.fixture
async def intake() -> AsyncIterator[Intake]:
    made = Intake(bodies(), load_registry())
    yield made
    await made.close()


@pytest.mark.usefixtures("calm")
@pytest.mark.parametrize("size", [INLINE_BYTES - 100, 1_000_000])
async def test_no_body_keeps_the_event_loop_for_long(intake: Intake, size: int) -> None:
    async def submit(body: bytes) -> None:
        with pytest.raises(Problem):
            async with intake.wanted(request_of(body), Mode.SYNC):
                raise AssertionError("unreachable")

    found = {}
    for kind in COSTLY_INPUTS:
        body = costly_body(kind, size)
        found[kind] = await longest_callback_ms(lambda body=body: submit(body))  # type: ignore[misc]
    assert {kind: longest for kind, longest in found.items() if longest >= LONGEST_MS} == {}
