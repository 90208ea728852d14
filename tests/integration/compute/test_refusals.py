"""What is no request ends in the dead letters, what fails ends `failed`, and the partition goes on."""

import base64
import hashlib
import json
from dataclasses import dataclass

import pytest

from services.compute.settings import ComputeSettings
from shared.domain.requests import FailureCode, RequestDeadLettered, RequestSucceeded
from shared.domain.types import Mode
from shared.events.submission import Submission, decode_submission
from shared.events.submit_keys import SubmitKeys
from shared.kafka.records import Record
from tests.integration.compute.services import computing
from tests.integration.compute.support import Bench, hazard, nap, wanted

pytestmark = pytest.mark.kafka


@dataclass(frozen=True)
class Undecodable:
    """Bytes that are no request, and what the dead letter says of them."""

    value: bytes | None
    reason: str
    words: str
    field: str = ""


UNDECODABLE = {
    "no bytes": Undecodable(None, "malformed_json", "not valid JSON"),
    "no JSON": Undecodable(b"\xff{", "malformed_json", "not valid JSON"),
    "nested too deep": Undecodable(
        b'{"operation":"nap","input":' + b"[" * 40 + b"]" * 40 + b"}", "malformed_json", "deeper than 32"
    ),
    "NaN": Undecodable(b'{"operation":"nap","input":{"ms":NaN}}', "malformed_json", "not valid JSON"),
    "no operation": Undecodable(b'{"input":{}}', "invalid_request", "is required", "operation"),
    "a callback URL with a password": Undecodable(
        b'{"operation":"nap","callback_url":"http://me:pw@example.com/"}', "invalid_request", "callback_url",
        "callback_url",
    ),
    "a large one": Undecodable(b'{"a":"' + b"x" * 1_200_000, "malformed_json", "not valid JSON"),
}  # fmt: skip


async def letter_of(made: Bench, count: int = 1) -> RequestDeadLettered:
    return (await made.dead_letters(count))[-1]


async def test_what_cannot_be_decoded_is_set_aside_with_its_bytes_and_the_partition_goes_on(
    settings: ComputeSettings,
) -> None:
    async with computing(settings) as made:
        for number, (name, case) in enumerate(UNDECODABLE.items()):
            await made.send_bytes(case.value, partition=0, headers=[("mine", b"\x00")])
            letter = await letter_of(made, number + 1)
            assert letter.reason == case.reason, name
            assert case.words in letter.message, name
            assert [path for path, _ in letter.fields] == ([case.field] if case.field else []), name
            assert letter.origin == f"{settings.topic_prefix}requests-0-{number}", name
            kept = None if letter.value_base64 is None else base64.b64decode(letter.value_base64)
            assert kept == case.value, name
            assert letter.sha256 == hashlib.sha256(case.value or b"").hexdigest(), name
            assert letter.headers_base64 == (("mine", "AA=="),), name
            assert letter.request_id is None, name
        request = nap(1, 7)
        await made.send(request, partition=0)
        assert await made.result(request) == {"value": 7}
        assert len(made.results.records) == 1


async def test_an_unknown_operation_is_set_aside_and_fails_for_whoever_waits(
    settings: ComputeSettings,
) -> None:
    async with computing(settings) as made:
        request = wanted("no_such", {})
        await made.send(request, mode=Mode.SYNC)
        error = await made.failure(request, FailureCode.UNKNOWN_OPERATION)
        assert "hash_chain" in error.message
        letter = await letter_of(made)
        assert (letter.reason, letter.request_id) == ("unknown_operation", request.request_id)
        assert (await made.outcome(request)).attempts == 0


async def test_an_invalid_input_is_set_aside_and_fails_with_the_fields_named(
    settings: ComputeSettings,
) -> None:
    async with computing(settings) as made:
        request = wanted("nap", {"ms": "x", "other": 1})
        await made.send(request)
        error = await made.failure(request, FailureCode.INVALID_INPUT)
        assert "input.ms" in error.message
        letter = await letter_of(made)
        assert letter.reason == "invalid_input"
        assert [path for path, _ in letter.fields] == ["input.ms", "input.other"]


async def test_names_of_fields_may_be_of_any_length(settings: ComputeSettings) -> None:
    """They come back from the slot in a frame's header, which is small."""
    async with computing(settings) as made:
        request = wanted("nap", {"x" * 50_000 + str(number): 1 for number in range(20)})
        await made.send(request)
        await made.failure(request, FailureCode.INVALID_INPUT)
        assert all(len(path) <= 200 for path, _ in (await letter_of(made)).fields)


async def test_a_fault_of_the_decoder_sets_its_record_aside(
    settings: ComputeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def faulty(record: Record, mode: Mode, keys: SubmitKeys, *, with_digest: bool) -> Submission:
        if b"fault" in (record.value or b""):
            raise RuntimeError("unforeseen")
        return decode_submission(record, mode, keys, with_digest=with_digest)

    monkeypatch.setattr("shared.events.decoder.decode_submission", faulty)
    async with computing(settings) as made:
        request = nap(1)
        await made.send_bytes(b"fault", partition=0)
        await made.send(request, partition=0)
        await made.outcome(request)
        letter = await letter_of(made)
        assert (letter.reason, "unforeseen" in letter.message) == ("decoder_fault", True)


async def test_an_exception_fails_at_once_and_is_named(settings: ComputeSettings) -> None:
    async with computing(settings) as made:
        request = hazard("raise_error")
        await made.send(request)
        error = await made.failure(request, FailureCode.OPERATION_ERROR)
        assert (error.type, error.message) == ("ValueError", "no such luck")
        assert error.peak_rss_bytes
        assert (await made.outcome(request)).attempts == 1
        assert not made.letters.records


async def test_a_crash_gets_a_second_attempt_and_harms_no_neighbour(settings: ComputeSettings) -> None:
    async with computing(settings) as made:
        neighbours = [nap(5, value) for value in range(20)]
        crashing = hazard("segfault")
        await made.send(*neighbours[:10], crashing, *neighbours[10:])
        error = await made.failure(crashing, FailureCode.CRASHED)
        assert error.signal == "SIGSEGV"
        outcome = await made.outcome(crashing)
        assert (outcome.attempts, outcome.compute_ms > 0) == (2, True)
        for value, each in enumerate(neighbours):
            assert await made.result(each) == {"value": value}


async def test_a_time_limit_ends_a_request_within_a_tenth_of_a_second(settings: ComputeSettings) -> None:
    async with computing(settings) as made:
        request = hazard("spin", timeout=0.3)
        await made.send(request)
        error = await made.failure(request, FailureCode.TIMEOUT)
        assert (error.limit_ms, error.signal) == (300, "SIGKILL")
        outcome = await made.outcome(request)
        assert outcome.attempts == 1
        assert 300 <= outcome.compute_ms <= 400


async def test_a_request_past_its_expiry_is_not_started(settings: ComputeSettings) -> None:
    async with computing(settings, slots=1) as made:
        late = nap(1, expires_at="2020-01-01T00:00:00Z")
        await made.send(late)
        await made.failure(late, FailureCode.EXPIRED)
        assert (await made.outcome(late)).attempts == 0


async def test_the_largest_result_fits_and_a_larger_one_fails(settings: ComputeSettings) -> None:
    async with computing(settings) as made:
        request = hazard("return_too_much")
        await made.send(request)
        await made.failure(request, FailureCode.RESULT_TOO_LARGE)
        large = hazard("return_two_mib")
        await made.send(large)
        outcome = await made.outcome(large)
        assert isinstance(outcome, RequestSucceeded)
        assert len(json.loads(outcome.result)) > 2_000_000
