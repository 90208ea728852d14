"""Outcomes become deliveries with the documented body; what does not belong is no silence."""

import json
from dataclasses import replace

import pytest

from services.callback.inbox import UnreadableRecordError, read_delivery
from shared.domain.requests import Failure, FailureCode, RequestFailed, RequestStarted, RequestSucceeded
from shared.domain.types import JsonText, Mode
from shared.kafka.topics import Topic
from tests.support.log_builder import LogBuilder
from tests.support.requests import URL, facts
from tests.unit.callback.support import delivered, delivery

LOG = LogBuilder()
RESULT = '{"big": 12345678901234567890123, "float": 1.10, "text": "\\u00e9é", "spaced" :  [ ] }'


def _succeeded(**fields: object) -> RequestSucceeded:
    base = {"attempts": 1, "finished_at_ms": 1_700_000_000_123, "callback_url": URL}
    return RequestSucceeded(**facts(1), **{**base, "result": JsonText(RESULT), **fields})  # type: ignore[arg-type]


def test_a_success_is_told_with_its_result_as_it_was_computed() -> None:
    record = LOG.event(Topic.RESULTS, _succeeded(client_reference="order-1"))
    found = read_delivery(record)
    assert found is not None
    assert found.body == (
        f'{{"id":"{facts(1)["request_id"]}","type":"request.succeeded","status":"succeeded",'
        f'"operation":"primes","result":{RESULT},"client_reference":"order-1",'
        '"finished_at":"2023-11-14T22:13:20.123Z"}'
    )
    assert (found.url, found.webhook_id, found.origin) == (URL, facts(1)["request_id"], record.position)
    assert (found.attempt, found.not_before_ms) == (1, 0)


def test_the_outcome_of_a_caller_who_waits_is_not_decoded() -> None:
    record = LOG.event(
        Topic.RESULTS,
        RequestSucceeded(
            **facts(1, mode=Mode.SYNC), attempts=1, finished_at_ms=1, callback_url=None, result=JsonText("1")
        ),
    )
    assert read_delivery(replace(record, value=b"not looked at")) is None


def test_a_failure_is_told_with_its_error() -> None:
    error = Failure(code=FailureCode.TIMEOUT, message="took too long", limit_ms=100)
    outcome = RequestFailed(
        **facts(1), attempts=1, finished_at_ms=1_700_000_000_123, callback_url=URL, error=error
    )
    found = read_delivery(LOG.event(Topic.RESULTS, outcome))
    assert found is not None
    assert json.loads(found.body) == {
        "id": facts(1)["request_id"],
        "type": "request.failed",
        "status": "failed",
        "operation": "primes",
        "error": {"code": "timeout", "message": "took too long", "limit_ms": 100},
        "client_reference": None,
        "finished_at": "2023-11-14T22:13:20.123Z",
    }


def test_nothing_is_to_be_done_without_a_url_or_an_outcome() -> None:
    started = RequestStarted(**facts(1), attempt=1, started_at_ms=1, worker="w")
    assert read_delivery(LOG.event(Topic.RESULTS, _succeeded(callback_url=None))) is None
    assert read_delivery(LOG.event(Topic.RESULTS, started)) is None


def test_a_tier_holds_deliveries() -> None:
    assert read_delivery(LOG.event(Topic.CALLBACKS_RETRY_1S, delivery(attempt=3))) == delivery(attempt=3)


@pytest.mark.parametrize("value", [b"", b"{", b"\xff", None, b'{"a": 1}'])
def test_what_cannot_be_read_is_no_silence(value: bytes | None) -> None:
    with pytest.raises(UnreadableRecordError):
        read_delivery(LOG.raw(Topic.RESULTS, value))


def test_events_of_other_topics_do_not_belong() -> None:
    with pytest.raises(UnreadableRecordError, match="CallbackDelivered does not belong"):
        read_delivery(LOG.event(Topic.RESULTS, delivered()))
