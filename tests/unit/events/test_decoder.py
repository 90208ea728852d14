"""Long records are decoded by another process, with the same outcome as here, whatever becomes of it."""

import asyncio
import json
import os
import resource
import signal
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import orjson
import pytest
import structlog.testing

from shared.domain.types import Mode
from shared.events.decoder import PAUSES_S, DecoderExhaustedError, SubmissionDecoder
from shared.events.decoder_process import (
    DecoderBusyError,
    DecoderLostError,
    DecoderProcess,
    DecoderStartError,
)
from shared.events.strict_json import INLINE_BYTES
from shared.events.submission import Submission, SubmissionError, decode_submission
from shared.events.submit_keys import NO_KEYS
from shared.kafka.records import Headers, Record
from tests.support.waiting import until
from tests.unit.events.test_submit_keys import KEYS, written

ANSWERS = "tests.support.decoder_answers"
"""A process that answers, is silent or dies, as it is asked to."""

STRUCTURED: Headers = (("content-type", b"application/cloudevents+json"),)
PADDING = b" " * INLINE_BYTES

LONG_RECORDS: dict[str, tuple[bytes, Headers]] = {
    "a request": (b'{"operation":"x","input":{"a":[1,2.50,"\\u00e9"]},"timeout":2}', ()),
    "one with a reply": (
        b'{"operation":"x","id":"7","source":"me"}',
        (("reply-topic", b"t.replies"), ("correlation-id", b"\xff"), ("traceparent", b"00-1")),
    ),
    "the input twice": (b'{"operation":"x","client_reference":"[1]","input":[1]}', ()),
    "in structured mode": (
        b'{"specversion":"1.0","id":"1","source":"me","type":"consuma.request.submitted.v1",'
        b'"data":{"operation":"x","input":{"a":1}}}',
        STRUCTURED,
    ),
    "nested too deep": (b'{"operation":"x","input":' + b"[" * 40 + b"]" * 40 + b"}", ()),
    "a long integer": (b'{"operation":"x","input":99999999999999999999}', ()),
    "no JSON": (b'{"operation":"x","input":[}', ()),
    "NaN": (b'{"operation":"x","input":[NaN]}', ()),
    "a lone surrogate": (b'{"operation":"x","input":"\\ud800"}', ()),
    "an unknown event": (b"{}", (("ce_specversion", b"1.0"), ("ce_type", b"other"))),
    "no CloudEvent": (b'{"data":1}', STRUCTURED),
    "wrong fields": (b'{"operation":7}', ()),
    "bad fields": (b'{"operation":"","timeout":-1,"callback_url":"ftp://h/"}', ()),
    "too many headers": (b'{"operation":"x"}', (("", b""),) * 257),
    "large headers": (b'{"operation":"x"}', (("a", b"x" * 65_536),)),
}


def record_of(value: bytes, headers: Headers = ()) -> Record:
    return Record("t.requests", 0, 7, 1_000, None, value + PADDING, headers)


@pytest.fixture
async def decoder() -> AsyncIterator[SubmissionDecoder]:
    made = SubmissionDecoder(KEYS, with_digest=True)
    yield made
    await made.close()


async def outcome(decoder: SubmissionDecoder, record: Record) -> Submission | tuple[object, ...]:
    try:
        return await decoder.decode(record, Mode.ASYNC)
    except SubmissionError as error:
        return error.reason, error.message, error.fields


def expected(record: Record) -> Submission | tuple[object, ...]:
    try:
        return decode_submission(record, Mode.ASYNC, KEYS)
    except SubmissionError as error:
        return error.reason, error.message, error.fields


async def test_long_records_decode_to_the_same_as_here(decoder: SubmissionDecoder) -> None:
    for name, (value, headers) in LONG_RECORDS.items():
        record = record_of(value, headers)
        assert await outcome(decoder, record) == expected(record), name
        short = Record("t.requests", 0, 7, 1_000, None, value, headers)
        assert await outcome(decoder, short) == expected(short), name


async def test_a_long_record_of_ingest_keeps_its_id_and_its_input_is_no_copy(
    decoder: SubmissionDecoder,
) -> None:
    record = written(KEYS)
    found = await decoder.decode(record, Mode.ASYNC)
    long = Record("t.requests", 0, 7, 1_000, None, (record.value or b"") + PADDING, record.headers)
    forged = await decoder.decode(long, Mode.ASYNC)
    assert forged.request.request_id != found.request.request_id
    assert forged.request.input.obj is long.value


async def test_a_process_that_dies_is_replaced_and_nothing_is_lost(decoder: SubmissionDecoder) -> None:
    record = record_of(b'{"operation":"x"}')
    first = await decoder.decode(record, Mode.ASYNC)
    for _ in range(2):
        assert decoder.pid is not None
        os.kill(decoder.pid, signal.SIGKILL)
        assert await decoder.decode(record, Mode.ASYNC) == first


@pytest.fixture
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shared.events.decoder.PAUSES_S", (0.0,) * len(PAUSES_S))


@pytest.mark.usefixtures("no_pauses")
async def test_a_record_that_takes_every_process_down_cannot_be_decoded() -> None:
    decoder = SubmissionDecoder(NO_KEYS, with_digest=False, process=process())
    with pytest.raises(DecoderExhaustedError, match=f"died.* {len(PAUSES_S) + 1} times"):
        await decoder.decode(record_of(b"die"), Mode.ASYNC)
    await decoder.close()


def leave_little_memory(pid: int) -> None:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[0])
    resource.prlimit(pid, resource.RLIMIT_AS, (pages * resource.getpagesize() + 6 * 2**20, -1))


async def test_lack_of_memory_is_no_fault_of_a_long_record(decoder: SubmissionDecoder) -> None:
    """The parser calls it a fault of the text; another process decodes the record."""
    await decoder.decode(record_of(b'{"operation":"x"}'), Mode.ASYNC)
    short_of_memory = decoder.pid
    assert short_of_memory is not None
    leave_little_memory(short_of_memory)
    record = record_of(b'{"operation":"x","input":' + json.dumps([[]] * 300_000).encode() + b"}")
    assert await outcome(decoder, record) == expected(record)
    assert decoder.pid not in (None, short_of_memory)


@pytest.mark.usefixtures("no_pauses")
async def test_lack_of_memory_for_a_short_record_is_waited_out(
    decoder: SubmissionDecoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, lacks = record_of(b'{"operation":"x"}'), [True] * len(PAUSES_S)
    short = replace(found, value=(found.value or b"").strip())

    loads = orjson.loads

    def parse(data: bytes) -> object:
        if lacks and lacks.pop():
            raise orjson.JSONDecodeError("Not enough memory to allocate buffer for parsing", "", 0)
        return loads(data)

    monkeypatch.setattr("shared.events.strict_json.orjson.loads", parse)
    assert (await decoder.decode(short, Mode.ASYNC)).request.operation == "x"
    assert not lacks
    lacks[:] = [True] * (len(PAUSES_S) + 1)
    with pytest.raises(DecoderExhaustedError, match=r"MemoryError.* times"):
        await decoder.decode(short, Mode.ASYNC)


def process(answer_within_s: float = 30.0, most_waiting: int = 10) -> DecoderProcess:
    return DecoderProcess(ANSWERS, answer_within_s=answer_within_s, most_waiting=most_waiting)


async def test_only_the_question_that_a_process_died_over_fails() -> None:
    asked = process()
    answers = await asyncio.gather(
        *(asked.ask(b"", body) for body in (b"one", b"die", b"two")), return_exceptions=True
    )
    assert [answers[0], answers[2]] == [b"one", b"two"]
    assert isinstance(answers[1], DecoderLostError)
    await asked.close()


async def test_a_silent_process_is_killed_and_replaced() -> None:
    asked = process(answer_within_s=2.0)
    assert await asked.ask(b"", b"one") == b"one"
    silent = asked.pid
    with pytest.raises(DecoderLostError, match="silent for 2 s over 6 bytes"):
        await asked.ask(b"", b"silent")
    assert silent is not None
    with pytest.raises(ProcessLookupError):
        os.kill(silent, 0)
    assert await asked.ask(b"", b"two") == b"two"
    await asked.close()


async def test_a_process_that_does_not_die_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """As one that the kernel holds in a system call."""
    asked = process(answer_within_s=1.0)
    await asked.ask(b"", b"warm")
    immortal = asked.pid
    assert immortal is not None
    with monkeypatch.context() as patch:
        patch.setattr("shared.events.decoder_process._kill", lambda process: None)
        with pytest.raises(DecoderLostError), structlog.testing.capture_logs() as told:
            async with asyncio.timeout(10):
                await asked.ask(b"", b"silent")
    os.kill(immortal, 0)
    assert ("decoder.stuck", immortal) in [(each["event"], each.get("pid")) for each in told]
    assert await asked.ask(b"", b"two") == b"two"
    with structlog.testing.capture_logs() as told:
        os.kill(immortal, signal.SIGKILL)
        await until(lambda: "decoder.ended_late" in [each["event"] for each in told])
    await asked.close()


async def test_only_so_many_questions_wait() -> None:
    asked = process(most_waiting=2)
    await asked.ask(b"", b"warm")
    waiting = [asyncio.create_task(asked.ask(b"", b"silent"))]
    await asyncio.sleep(0)
    await until(lambda: asked.waiting == 0)
    waiting += [asyncio.create_task(asked.ask(b"", b"x")) for _ in range(2)]
    await until(lambda: asked.waiting == 2)
    with pytest.raises(DecoderBusyError):
        await asked.ask(b"", b"x")
    await asked.close()
    ended = await asyncio.gather(*waiting, return_exceptions=True)
    assert all(isinstance(each, DecoderStartError) for each in ended)


async def test_who_gives_up_disturbs_nobody() -> None:
    asked = process()
    await asked.ask(b"", b"warm")
    tasks = [asyncio.create_task(asked.ask(b"", body)) for body in (b"a" * 100, b"b", b"c")]
    await asyncio.sleep(0)
    tasks[0].cancel()
    tasks[1].cancel()
    assert await tasks[2] == b"c"
    await asked.close()


async def test_a_closed_process_is_gone(decoder: SubmissionDecoder) -> None:
    await decoder.decode(record_of(b'{"operation":"x"}'), Mode.ASYNC)
    pid = decoder.pid
    await decoder.close()
    assert (pid, decoder.pid) != (None, pid)
    with pytest.raises(ProcessLookupError):
        os.kill(pid or 0, 0)


async def test_without_a_process_the_answer_is_that_there_is_none() -> None:
    asked = DecoderProcess(ANSWERS, answer_within_s=1.0, most_waiting=1, executable="/no/such/python")
    with pytest.raises(DecoderStartError, match="cannot start"):
        await asked.ask(b"", b"x")
    await asked.close()
