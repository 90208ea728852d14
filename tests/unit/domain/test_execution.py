"""Before and after a run: what is not started, what is run again, and what an outcome says."""

from dataclasses import fields

import pytest

from shared.domain.execution import (
    CRASH_ATTEMPTS,
    Computed,
    Faulted,
    RunAgain,
    decide_outcome,
    fail,
    refuse_to_start,
    start,
)
from shared.domain.requests import (
    Failure,
    FailureCode,
    RequestFailed,
    RequestSubmitted,
    RequestSucceeded,
)
from shared.domain.types import JsonBytes, JsonText, Mode, RequestEvent, RequestId

NOW = 5_000


def request(expires_at_ms: int | None = None) -> RequestSubmitted:
    return RequestSubmitted(
        request_id=RequestId("an-id"),
        mode=Mode.ASYNC,
        source="shop",
        operation="nap",
        accepted_at_ms=1_000,
        input=JsonBytes(memoryview(b"{}")),
        digest="d",
        callback_url="http://example.com/",
        client_reference="order-1",
        expires_at_ms=expires_at_ms,
    )


def faulted(code: FailureCode) -> Faulted:
    return Faulted(error=Failure(code=code, message="why"), queue_ms=1.5, compute_ms=2.5)


@pytest.mark.parametrize(
    ("expires_at_ms", "cancelled", "code"),
    [
        (None, False, None),
        (NOW + 1, False, None),
        (NOW, False, FailureCode.EXPIRED),
        (NOW - 1, False, FailureCode.EXPIRED),
        (None, True, FailureCode.CANCELLED),
        (NOW - 1, True, FailureCode.CANCELLED),
    ],
)
def test_only_what_is_wanted_and_in_time_is_started(
    expires_at_ms: int | None, cancelled: bool, code: FailureCode | None
) -> None:
    refused = refuse_to_start(request(expires_at_ms), cancelled=cancelled, now_ms=NOW)
    assert (refused.code if refused else None) == code


@pytest.mark.parametrize("code", FailureCode)
@pytest.mark.parametrize("attempt", [1, CRASH_ATTEMPTS])
def test_only_a_crash_is_run_again_and_only_once(code: FailureCode, attempt: int) -> None:
    decided = decide_outcome(request(), faulted(code), attempt=attempt, now_ms=NOW)
    if code is FailureCode.CRASHED and attempt == 1:
        assert decided == RunAgain(2)
    else:
        assert isinstance(decided, RequestFailed)
        assert (decided.error.code, decided.attempts) == (code, attempt)
        assert (decided.queue_ms, decided.compute_ms) == (1.5, 2.5)


def test_a_result_is_a_success_with_all_that_a_callback_needs() -> None:
    computed = Computed(result=JsonText('{"a":1}'), queue_ms=1.0, compute_ms=2.0)
    outcome = decide_outcome(request(), computed, attempt=2, now_ms=NOW)
    assert isinstance(outcome, RequestSucceeded)
    assert (outcome.result, outcome.attempts, outcome.finished_at_ms) == ('{"a":1}', 2, NOW)
    assert (outcome.callback_url, outcome.client_reference) == ("http://example.com/", "order-1")


def test_every_event_repeats_what_a_row_needs_to_be_born() -> None:
    events = [
        start(request(), attempt=1, started_at_ms=NOW, worker="compute-0/7"),
        fail(request(), Failure(code=FailureCode.POISON, message="why"), attempts=3, now_ms=NOW),
        decide_outcome(
            request(), Computed(result=JsonText("1"), queue_ms=0, compute_ms=0), attempt=1, now_ms=NOW
        ),
    ]
    for event in events:
        for each in fields(RequestEvent):
            assert getattr(event, each.name) == getattr(request(), each.name)
