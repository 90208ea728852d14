"""What the read side answers with."""

from dataclasses import dataclass

from shared.domain.callbacks import CallbackStatus
from shared.domain.requests import Failure, RequestStatus
from shared.domain.types import JsonText, Mode

__all__ = [
    "CallbackAttemptView",
    "RequestDetail",
    "RequestPage",
    "RequestView",
    "StatusCount",
    "TimelineEntry",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestView:
    """A request as listings show it. Times in ms since the epoch, durations in ms.

    `attempts` counts runs of the operation, `callback_attempts` calls of the receiver since the last replay.
    """

    id: str
    mode: Mode
    source: str
    operation: str
    status: RequestStatus
    callback_status: CallbackStatus
    accepted_at_ms: int
    client_reference: str | None
    callback_url: str | None
    digest: str | None
    timeout_ms: int | None
    expires_at_ms: int | None
    started_at_ms: int | None
    worker: str | None
    attempts: int
    finished_at_ms: int | None
    queue_ms: float | None
    compute_ms: float | None
    error_code: str | None
    error_message: str | None
    callback_attempts: int
    callback_at_ms: int | None
    callback_retry_at_ms: int | None
    replay_count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestPage:
    """Newest first. `next` is the cursor of the following page, None on the last."""

    items: tuple[RequestView, ...]
    next: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TimelineEntry:
    """One record about a request.

    `data` is the event's JSON, left out where it is long or stays in the log (`data_bytes` tells its size);
    `superseded` marks a record that changed nothing: a repeated submission, a second outcome, a fact after
    the delivery. `anomaly` says why a record could not be read.
    """

    topic: str
    partition: int
    offset: int
    type: str
    event_id: str | None
    time_ms: int
    data: JsonText | None
    data_bytes: int | None
    note: str | None
    anomaly: str | None
    superseded: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class CallbackAttemptView:
    """One call of the receiver. `superseded` marks one that was made after the delivery was done."""

    attempt: int
    outcome: str
    url: str
    at_ms: int
    duration_ms: float
    http_status: int | None
    error_class: str | None
    message: str | None
    response_excerpt: str | None
    retry_at_ms: int | None
    superseded: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestDetail:
    """A request with its history, both oldest first. `truncated` says that older entries were left out.

    `input` and `result` are the very text that was submitted and computed.
    """

    request: RequestView
    input: JsonText | None
    result: JsonText | None
    error: Failure | None
    events: tuple[TimelineEntry, ...]
    callback_attempts: tuple[CallbackAttemptView, ...]
    truncated: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusCount:
    """How many requests share mode, status and callback status."""

    mode: Mode
    status: RequestStatus
    callback_status: CallbackStatus
    count: int
