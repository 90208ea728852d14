"""First submission and first outcome win, in whatever order and however often events come."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.domain.execution import Computed, Faulted, RunAgain, decide_outcome, fail, refuse_to_start, start
from shared.domain.requests import (
    EMPTY_REQUEST,
    Failure,
    FailureCode,
    RequestFailed,
    RequestHistoryEvent,
    RequestStatus,
    RequestSucceeded,
    evolve,
)
from shared.domain.types import JsonText
from tests.support.requests import submitted

REQUEST = submitted()
STARTED = start(REQUEST, attempt=1, started_at_ms=2, worker="compute-0")
TIMED_OUT = fail(REQUEST, Failure(code=FailureCode.TIMEOUT, message=""), attempts=1, now_ms=4)
CRASH = Faulted(error=Failure(code=FailureCode.CRASHED, message=""), queue_ms=0, compute_ms=1)


def _succeeded() -> RequestSucceeded:
    outcome = decide_outcome(
        REQUEST, Computed(result=JsonText("1"), queue_ms=0, compute_ms=1), attempt=1, now_ms=3
    )
    assert isinstance(outcome, RequestSucceeded)
    return outcome


SUCCEEDED = _succeeded()
EVENTS: list[RequestHistoryEvent] = [REQUEST, STARTED, SUCCEEDED, TIMED_OUT]


@given(st.lists(st.sampled_from(EVENTS), max_size=12))
def test_the_first_outcome_decides_for_ever(events: list[RequestHistoryEvent]) -> None:
    state = EMPTY_REQUEST
    for event in events:
        state = evolve(state, event)
    outcomes = [event for event in events if isinstance(event, RequestSucceeded | RequestFailed)]
    assert state.outcome == (outcomes[0] if outcomes else None)
    if outcomes:
        expected = RequestStatus.SUCCEEDED if outcomes[0] is SUCCEEDED else RequestStatus.FAILED
    else:
        expected = RequestStatus.RUNNING if STARTED in events else RequestStatus.ACCEPTED
    assert state.status is expected


@given(st.lists(st.sampled_from(EVENTS), max_size=8))
def test_repeating_a_history_changes_nothing(events: list[RequestHistoryEvent]) -> None:
    state = EMPTY_REQUEST
    for event in events:
        state = evolve(state, event)
    again = state
    for event in events:
        again = evolve(again, event)
    assert (again.submitted, again.outcome, again.status) == (state.submitted, state.outcome, state.status)


@pytest.mark.parametrize("outcome", [SUCCEEDED, TIMED_OUT])
def test_a_start_that_is_told_after_the_outcome_changes_nothing(
    outcome: RequestSucceeded | RequestFailed,
) -> None:
    """A producer that lost its broker for a while may append it late."""
    ended = evolve(evolve(EMPTY_REQUEST, REQUEST), outcome)
    assert evolve(ended, STARTED) == ended
    assert evolve(evolve(EMPTY_REQUEST, outcome), STARTED) == evolve(EMPTY_REQUEST, outcome)


def test_a_crash_is_run_once_more_and_then_fails() -> None:
    assert decide_outcome(REQUEST, CRASH, attempt=1, now_ms=0) == RunAgain(2)
    second = decide_outcome(REQUEST, CRASH, attempt=2, now_ms=9)
    assert isinstance(second, RequestFailed)
    assert (second.attempts, second.error.code, second.finished_at_ms) == (2, FailureCode.CRASHED, 9)


def test_every_other_fault_fails_at_once() -> None:
    for code in FailureCode:
        if code is FailureCode.CRASHED:
            continue
        fault = Faulted(error=Failure(code=code, message=""), queue_ms=0, compute_ms=0)
        assert isinstance(decide_outcome(REQUEST, fault, attempt=1, now_ms=0), RequestFailed)


def test_an_expired_or_cancelled_request_is_not_started() -> None:
    expiring = replace(REQUEST, expires_at_ms=100)
    assert refuse_to_start(expiring, cancelled=False, now_ms=99) is None
    refused = refuse_to_start(expiring, cancelled=False, now_ms=100)
    assert refused is not None
    assert refused.code is FailureCode.EXPIRED
    cancelled = refuse_to_start(REQUEST, cancelled=True, now_ms=0)
    assert cancelled is not None
    assert cancelled.code is FailureCode.CANCELLED


def test_an_outcome_carries_what_a_callback_needs() -> None:
    request = replace(REQUEST, callback_url="http://h/x", client_reference="r-1")
    outcome = fail(request, Failure(code=FailureCode.EXPIRED, message=""), attempts=0, now_ms=5)
    assert (outcome.callback_url, outcome.client_reference) == ("http://h/x", "r-1")
