"""From bodies to checked submissions."""

import asyncio
import json
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import field_validator
from starlette.requests import ClientDisconnect

from services.ingest.bodies import Bodies
from services.ingest.body_decoder import BodyDecoder
from services.ingest.checking import Wanted
from services.ingest.intake import Intake
from services.ingest.problems import (
    BodyTimeout,
    BodyTooLarge,
    InvalidInput,
    InvalidRequest,
    MalformedJson,
    Overloaded,
    UnsupportedMediaType,
)
from services.ingest.settings import IngestSettings
from services.ingest.waiting import while_connected
from shared.domain.types import Mode
from shared.operations.builtin import BUILTIN_OPERATIONS
from shared.operations.model import Input, Operation
from shared.operations.registry import Registry, load_registry
from tests.unit.ingest.support import request_of

BODY = b'{"operation":"hash_chain","input":{"seed":"a","rounds":2}}'


def bodies(**settings: float) -> Bodies:
    return Bodies(IngestSettings().model_copy(update=settings))


@pytest.fixture
def intake() -> Intake:
    return Intake(bodies(), load_registry())


async def test_a_body_in_pieces_is_one(intake: Intake) -> None:
    async with intake.wanted(request_of(BODY[:9], BODY[9:], b""), Mode.SYNC) as wanted:
        assert wanted.data.operation == "hash_chain"
        assert bytes(wanted.data.input) == b'{"seed":"a","rounds":2}'
        assert (wanted.data.source, wanted.data.digest) == ("rest", wanted.digest)


async def test_large_bodies_are_checked_beside_the_event_loop(intake: Intake) -> None:
    async with intake.wanted(request_of(BODY.ljust(200_000)), Mode.SYNC) as wanted:
        assert wanted.data.operation == "hash_chain"


class Elsewhere(BodyDecoder):
    """In place of the decoder process: notes what it is asked."""

    def __init__(self) -> None:
        self.asked: list[bytes] = []

    async def check(self, body: bytes, mode: Mode) -> Wanted:
        self.asked.append(body)
        raise Overloaded("asked")


class Foreign(Input):
    """A plugin's input, whose validator may do anything."""

    seed: str

    @field_validator("seed")
    @classmethod
    def _check(cls, seed: str) -> str:
        if seed == "hang":
            raise AssertionError("checked on the event loop")
        return seed


@pytest.mark.parametrize("cheap", [False, True])
async def test_an_input_is_checked_here_only_if_its_operation_says_that_this_is_cheap(cheap: bool) -> None:
    operation = Operation(
        name="foreign",
        description="of a plugin",
        input_model=Foreign,
        run=str,
        example={"seed": "a"},
        cheap_check=cheap,
    )
    elsewhere = Elsewhere()
    intake = Intake(bodies(), Registry([operation]), elsewhere)
    body = b'{"operation":"foreign","input":{"seed":"hang"}}'
    with pytest.raises(InvalidInput if cheap else Overloaded):
        async with intake.wanted(request_of(body), Mode.SYNC):
            raise AssertionError("unreachable")
    assert elsewhere.asked == ([] if cheap else [body])


def test_the_operations_of_this_package_are_checked_here() -> None:
    assert all(each.cheap_check for each in BUILTIN_OPERATIONS)


def test_the_digest_tells_what_is_asked_not_how_it_is_spelt(intake: Intake) -> None:
    spellings = [BODY, b' {"input": {"rounds":2, "seed":"\\u0061"}, "operation":"hash_chain"}']
    assert len({intake.check(each, Mode.SYNC).digest for each in spellings}) == 1
    others = [BODY.replace(b"2", b"3"), BODY[:-1] + b',"timeout":1}', BODY[:-1] + b',"client_reference":"x"}']
    assert len({intake.check(each, Mode.SYNC).digest for each in [BODY, *others]}) == 4


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=20,
    )
    | st.fixed_dictionaries(
        {"operation": st.just("hash_chain")},
        optional={
            name: st.none() | st.integers() | st.floats() | st.text() | st.dictionaries(st.text(), st.text())
            for name in ("input", "timeout", "expires_at", "client_reference", "callback_url", "id", "digest")
        },
    )
)
def test_whatever_is_sent_is_accepted_or_a_problem(body: object) -> None:
    """Never another exception, which would be a 500."""
    intake = Intake(bodies(), load_registry())
    for mode in Mode:
        with suppress(MalformedJson, InvalidRequest, InvalidInput):
            intake.check(json.dumps(body).encode("utf-8", "surrogatepass"), mode)


@given(st.binary(max_size=200))
def test_bytes_are_no_request(body: bytes) -> None:
    with pytest.raises((MalformedJson, InvalidRequest)):
        Intake(bodies(), load_registry()).check(body, Mode.ASYNC)


async def test_bounds_of_a_body() -> None:
    small = bodies(body_limit_bytes=10)
    async with small.body(request_of(b"x" * 10)) as body:
        assert body == b"x" * 10
    with pytest.raises(BodyTooLarge):
        async with small.body(request_of(b"x" * 6, b"x" * 5)):
            raise AssertionError("unreachable")
    with pytest.raises(BodyTimeout):
        async with bodies(body_timeout_s=0.01).body(request_of()):
            raise AssertionError("unreachable")


async def test_bodies_give_their_room_back() -> None:
    tight = bodies(body_memory_bytes=10)
    async with tight.body(request_of(b"x" * 6)):
        with pytest.raises(Overloaded):
            async with tight.body(request_of(b"x" * 3, b"x" * 3)):
                raise AssertionError("unreachable")
        async with tight.body(request_of(b"x" * 4)):
            pass
    async with tight.body(request_of(b"x" * 10)):
        pass


@pytest.mark.parametrize(
    "headers",
    [{}, {"content-type": "text/plain"}, {"content-type": "application/json", "content-encoding": "br"}],
    ids=str,
)
async def test_only_plain_json_is_read(headers: dict[str, str]) -> None:
    with pytest.raises(UnsupportedMediaType):
        async with bodies().body(request_of(b"{}", headers=headers)):
            raise AssertionError("unreachable")


async def test_nothing_is_waited_for_once_the_caller_is_gone() -> None:
    gone = asyncio.Event()
    cancelled = asyncio.Event()

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    waiting = asyncio.create_task(while_connected(request_of(b"", gone=gone), work()))
    await asyncio.sleep(0)
    gone.set()
    with pytest.raises(ClientDisconnect):
        await waiting
    assert cancelled.is_set()


async def test_what_work_raises_reaches_the_caller() -> None:
    async def work() -> None:
        raise BodyTimeout("late")

    with pytest.raises(BodyTimeout):
        await while_connected(request_of(b""), work())
