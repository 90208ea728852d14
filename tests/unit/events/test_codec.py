"""Every event ever written is read for ever: golden files, and the JSON text inside stays as it came."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from shared.domain.callbacks import (
    AttemptSummary,
    CallbackAttempted,
    CallbackDeadLettered,
    CallbackDelivered,
    CallbackDiscarded,
    CallbackReplayed,
    Delivery,
    DeliveryDeadLettered,
)
from shared.domain.destinations import DestinationDisabled, DestinationEnabled, identify
from shared.domain.requests import (
    Failure,
    FailureCode,
    RequestCancelled,
    RequestDeadLettered,
    RequestFailed,
    RequestStarted,
    RequestSucceeded,
)
from shared.domain.retry_policy import ErrorClass, GiveUpReason
from shared.domain.types import JsonText, Mode, RequestFacts, RequestId
from shared.events.codec import (
    EVENT_TYPES,
    Event,
    MalformedEventError,
    Origin,
    UnknownEventError,
    decode,
    encode,
    type_name,
)

GOLDEN = Path(__file__).parent / "golden"
ORIGIN = Origin(
    event_id="0191-e",
    source="/consuma/test",
    now_ms=1_700_000_000_123,
    traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
)
FACTS = RequestFacts(
    request_id=RequestId("3f0f3c0e-6c0a-5d3b-9d6e-2f6a1b7c8d90"),
    mode=Mode.ASYNC,
    source="rest",
    operation="primes",
    accepted_at_ms=1_700_000_000_000,
)
ODD_TEXT = JsonText('{"b": 1.000, "a": 123456789012345678, "a": "\\u00e9é𝄞"}')
DELIVERY = Delivery(
    **FACTS,
    url="https://receiver.example/hook?a=1",
    webhook_id=FACTS["request_id"],
    body=ODD_TEXT,
    origin="consuma.results-3-77",
    attempt=2,
    not_before_ms=1_700_000_005_000,
    first_failed_at_ms=1_700_000_001_000,
    history=(
        AttemptSummary(attempt=1, at_ms=1, duration_ms=2.5, error_class=ErrorClass.HTTP_5XX, status=503),
    ),
)
DESTINATION, SHOWN = identify("rest", DELIVERY.url)
EVENTS: list[Event] = [
    RequestStarted(**FACTS, attempt=1, started_at_ms=5, worker="compute-0"),
    RequestSucceeded(
        **FACTS,
        attempts=1,
        finished_at_ms=9,
        queue_ms=0.5,
        compute_ms=3.25,
        callback_url="http://h/",
        client_reference="order-1",
        result=ODD_TEXT,
    ),
    RequestFailed(
        **FACTS,
        attempts=2,
        finished_at_ms=9,
        error=Failure(code=FailureCode.CRASHED, message="died", signal="SIGSEGV", exit_code=-11),
    ),
    RequestCancelled(**FACTS, requested_at_ms=7),
    RequestDeadLettered(
        reason="malformed_json",
        message="not valid JSON",
        origin="consuma.requests-0-4",
        timestamp_ms=1,
        dead_lettered_at_ms=2,
        value_base64="ew==",
        value_bytes=1,
        sha256="021f",
        headers_base64=(("x", "eQ=="),),
        fields=(("input.n", "is required"),),
    ),
    CallbackAttempted(
        **FACTS,
        url="http://h/",
        attempt=1,
        error_class=ErrorClass.TIMEOUT_RESPONSE,
        at_ms=3,
        duration_ms=10.0,
        retry_at_ms=1003,
    ),
    CallbackDelivered(**FACTS, url="http://h/", attempt=2, status=204, at_ms=4, duration_ms=1.5),
    CallbackDeadLettered(
        **FACTS, url="http://h/", reason=GiveUpReason.EXHAUSTED, attempts=7, at_ms=4, message="503"
    ),
    CallbackReplayed(**FACTS, letter="l-0-1", replayed_by="ops", reason="fixed", at_ms=1, replay_count=1),
    CallbackDiscarded(**FACTS, letter="l-0-1", discarded_by="ops", reason="obsolete", at_ms=1),
    DELIVERY,
    DeliveryDeadLettered(
        delivery=DELIVERY,
        reason=GiveUpReason.TERMINAL,
        message="404",
        last_failed_at_ms=1,
        dead_lettered_at_ms=2,
    ),
    DestinationDisabled(
        destination_id=DESTINATION,
        submitter="rest",
        url=SHOWN,
        reason="answered 410",
        disabled_by="receiver",
        at_ms=5,
    ),
    DestinationEnabled(
        destination_id=DESTINATION,
        submitter="rest",
        url=SHOWN,
        reason="moved back",
        enabled_by="ops",
        at_ms=6,
    ),
]


def test_every_type_has_an_example() -> None:
    assert {type_name(event) for event in EVENTS} == set(EVENT_TYPES)


@pytest.mark.parametrize("event", EVENTS, ids=type_name)
def test_an_event_is_written_and_read_as_its_golden_file_says(event: Event) -> None:
    encoded = encode(event, ORIGIN)
    written = {
        "key": encoded.key.decode() if encoded.key else None,
        "headers": {name: value.decode() for name, value in encoded.headers},
        "value": encoded.value.decode(),
    }
    golden_file = GOLDEN / f"{type_name(event)}.json"
    golden = json.loads(golden_file.read_text())
    assert written == golden
    headers = tuple((name, value.encode()) for name, value in golden["headers"].items())
    assert decode(headers, golden["value"].encode())[1] == event


def test_json_text_passes_through_byte_for_byte() -> None:
    encoded = encode(EVENTS[1], ORIGIN)
    assert ODD_TEXT.encode() in encoded.value
    event = decode(encoded.headers, encoded.value)[1]
    assert isinstance(event, RequestSucceeded)
    assert event.result == ODD_TEXT


def test_fields_added_later_are_ignored() -> None:
    encoded = encode(EVENTS[0], ORIGIN)
    richer = encoded.value[:-1] + b',"new_in_v1_1":{"x":1}}'
    assert decode(encoded.headers, richer)[1] == EVENTS[0]


def test_an_unknown_version_is_a_named_error() -> None:
    encoded = encode(EVENTS[0], ORIGIN)
    headers = tuple(
        (name, b"consuma.request.started.v9" if name == "ce_type" else value)
        for name, value in encoded.headers
    )
    with pytest.raises(UnknownEventError, match="v9"):
        decode(headers, encoded.value)


@pytest.mark.parametrize("value", [None, b"", b"{}", b"[]", b"\xff", b'{"request_id":1}'])
def test_data_that_does_not_fit_is_a_named_error(value: bytes | None) -> None:
    headers = encode(EVENTS[0], ORIGIN).headers
    with pytest.raises(MalformedEventError):
        decode(headers, value)


def test_a_record_without_envelope_is_a_named_error() -> None:
    with pytest.raises(MalformedEventError, match="CloudEvents"):
        decode((), b"{}")


@pytest.mark.parametrize("odd", ["", "mine", "x" * 1_100_000, "00-ABC-1-01"])
def test_a_traceparent_that_is_none_is_not_handed_on(odd: str) -> None:
    written = encode(EVENTS[0], replace(ORIGIN, traceparent=odd))
    assert "traceparent" not in dict(written.headers)
