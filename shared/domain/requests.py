"""The life of a request: submitted, perhaps started, then exactly one outcome.

`evolve` is the definition of what the read side shows; the projection's SQL is tested against it.
The first terminal event is the outcome; whatever comes after it changes nothing.
"""

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from shared.domain.types import JsonBytes, JsonText, RequestEvent

__all__ = [
    "EMPTY_REQUEST",
    "Failure",
    "FailureCode",
    "Outcome",
    "RequestCancelled",
    "RequestDeadLettered",
    "RequestFailed",
    "RequestHistoryEvent",
    "RequestStarted",
    "RequestState",
    "RequestStatus",
    "RequestSubmitted",
    "RequestSucceeded",
    "evolve",
]


class RequestStatus(StrEnum):
    """What a person sees of a request's computation."""

    ACCEPTED = "accepted"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"


class FailureCode(StrEnum):
    """Why a request failed. The text is a contract: callers branch on it."""

    OPERATION_ERROR = "operation_error"
    CRASHED = "crashed"
    TIMEOUT = "timeout"
    MEMORY = "memory_limit"
    INVALID_INPUT = "invalid_input"
    UNKNOWN_OPERATION = "unknown_operation"
    INVALID_RESULT = "invalid_result"
    RESULT_TOO_LARGE = "result_too_large"
    EXPIRED = "expired"
    CANCELLED = "cancelled"
    POISON = "poison"


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why a request failed, in words and figures.

    `type` is the exception's class name; `signal` and `exit_code` tell how a slot died; `limit_ms` is the
    limit that was passed.
    """

    code: FailureCode
    message: str
    type: str | None = None
    signal: str | None = None
    exit_code: int | None = None
    limit_ms: int | None = None
    peak_rss_bytes: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestSubmitted(RequestEvent):
    """A request as its submitter sent it.

    `digest` is the SHA-256 of what was asked, as hex; empty where nobody compares requests.
    """

    input: JsonBytes
    digest: str
    callback_url: str | None = None
    client_reference: str | None = None
    timeout_ms: int | None = None
    expires_at_ms: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestStarted(RequestEvent):
    """A computation that has already run for a while."""

    attempt: int
    started_at_ms: int
    worker: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome(RequestEvent):
    """What every terminal event carries: all that a callback or a waiting caller needs.

    `queue_ms` is the wait for a slot, `compute_ms` the time inside it, over the last attempt.
    """

    attempts: int
    finished_at_ms: int
    queue_ms: float = 0.0
    compute_ms: float = 0.0
    callback_url: str | None = None
    client_reference: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestSucceeded(Outcome):
    """The request was computed."""

    result: JsonText


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestFailed(Outcome):
    """The request will never have a result."""

    error: Failure


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestCancelled(RequestEvent):
    """Somebody asked that the request be stopped; it ends `failed` unless it has ended already."""

    requested_at_ms: int
    reason: str = "cancelled by the caller"


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestDeadLettered:
    """A record that could not become a request, or that no attempt survived, with its bytes.

    `value_base64` holds at most the first 64 KiB when the whole would not fit; `value_bytes` and `sha256`
    always describe the whole. `request_id` is None when the record could not be identified.
    """

    reason: str
    message: str
    origin: str
    timestamp_ms: int
    dead_lettered_at_ms: int
    request_id: str | None = None
    key_base64: str | None = None
    value_base64: str | None = None
    value_bytes: int = 0
    sha256: str = ""
    headers_base64: tuple[tuple[str, str], ...] = ()
    fields: tuple[tuple[str, str], ...] = ()
    attempts: int = 0


RequestHistoryEvent = RequestSubmitted | RequestStarted | RequestSucceeded | RequestFailed


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestState:
    """A request as far as its events have told."""

    submitted: RequestSubmitted | None = None
    started: RequestStarted | None = None
    outcome: RequestSucceeded | RequestFailed | None = None

    @property
    def status(self) -> RequestStatus:
        """Where the computation stands."""
        match self.outcome:
            case RequestSucceeded():
                return RequestStatus.SUCCEEDED
            case RequestFailed():
                return RequestStatus.FAILED
            case None:
                return RequestStatus.RUNNING if self.started else RequestStatus.ACCEPTED


EMPTY_REQUEST: Final = RequestState()


def evolve(state: RequestState, event: RequestHistoryEvent) -> RequestState:
    """`state` after `event`. First submission and first outcome win; `started` never follows an outcome."""
    match event:
        case RequestSubmitted():
            return state if state.submitted else replace(state, submitted=event)
        case RequestStarted():
            return state if state.outcome else replace(state, started=event)
        case RequestSucceeded() | RequestFailed():
            return state if state.outcome else replace(state, outcome=event)
