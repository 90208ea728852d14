"""What to do with a request before and after it ran: pure decisions of the compute service."""

from dataclasses import dataclass
from typing import Final

from shared.domain.requests import (
    Failure,
    FailureCode,
    RequestFailed,
    RequestStarted,
    RequestSubmitted,
    RequestSucceeded,
)
from shared.domain.types import JsonText, facts_of

__all__ = [
    "CRASH_ATTEMPTS",
    "Computed",
    "Execution",
    "Faulted",
    "RunAgain",
    "decide_outcome",
    "fail",
    "refuse_to_start",
    "start",
]

CRASH_ATTEMPTS: Final = 2
"""How often an operation that takes its slot down is run: a crash may be the neighbourhood's fault once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Computed:
    """A slot returned a result."""

    result: JsonText
    queue_ms: float
    compute_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Faulted:
    """A slot returned an error, or did not return."""

    error: Failure
    queue_ms: float
    compute_ms: float


Execution = Computed | Faulted


@dataclass(frozen=True, slots=True)
class RunAgain:
    """The request deserves one more attempt, with this number."""

    attempt: int


def refuse_to_start(request: RequestSubmitted, *, cancelled: bool, now_ms: int) -> Failure | None:
    """Why `request` must not be started any more, or None."""
    if cancelled:
        return Failure(code=FailureCode.CANCELLED, message="cancelled before it was started")
    if request.expires_at_ms is not None and now_ms >= request.expires_at_ms:
        late_ms = now_ms - request.expires_at_ms
        return Failure(
            code=FailureCode.EXPIRED, message=f"its expiry had passed {late_ms} ms before its turn"
        )
    return None


def decide_outcome(
    request: RequestSubmitted, execution: Execution, *, attempt: int, now_ms: int
) -> RequestSucceeded | RequestFailed | RunAgain:
    """The outcome after `attempt`, or another attempt: only a crash deserves one, and only once."""
    match execution:
        case Computed():
            return _succeed(request, execution, attempt=attempt, now_ms=now_ms)
        case Faulted(error=Failure(code=FailureCode.CRASHED)) if attempt < CRASH_ATTEMPTS:
            return RunAgain(attempt + 1)
        case Faulted():
            return fail(
                request,
                execution.error,
                attempts=attempt,
                now_ms=now_ms,
                queue_ms=execution.queue_ms,
                compute_ms=execution.compute_ms,
            )


def start(request: RequestSubmitted, *, attempt: int, started_at_ms: int, worker: str) -> RequestStarted:
    """The event that tells of a computation which takes a while."""
    return RequestStarted(
        **facts_of(request),
        attempt=attempt,
        started_at_ms=started_at_ms,
        worker=worker,
    )


def fail(
    request: RequestSubmitted,
    error: Failure,
    *,
    attempts: int,
    now_ms: int,
    queue_ms: float = 0.0,
    compute_ms: float = 0.0,
) -> RequestFailed:
    """The outcome of a request that will never have a result."""
    return RequestFailed(
        **facts_of(request),
        attempts=attempts,
        finished_at_ms=now_ms,
        queue_ms=queue_ms,
        compute_ms=compute_ms,
        callback_url=request.callback_url,
        client_reference=request.client_reference,
        error=error,
    )


def _succeed(
    request: RequestSubmitted, execution: Computed, *, attempt: int, now_ms: int
) -> RequestSucceeded:
    return RequestSucceeded(
        **facts_of(request),
        attempts=attempt,
        finished_at_ms=now_ms,
        queue_ms=execution.queue_ms,
        compute_ms=execution.compute_ms,
        callback_url=request.callback_url,
        client_reference=request.client_reference,
        result=execution.result,
    )
