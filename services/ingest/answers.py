"""What the API answers with. The bytes sent and the documentation's schemas come from the same structures."""

from collections.abc import Mapping
from typing import Any, Final

import msgspec
from starlette.responses import Response

__all__ = [
    "AcceptedAnswer",
    "CallbackAttemptAnswer",
    "CancelAnswer",
    "DestinationAnswer",
    "DestinationsAnswer",
    "ErrorAnswer",
    "EventAnswer",
    "LimitsAnswer",
    "ListAnswer",
    "OperationAnswer",
    "OperationsAnswer",
    "OutcomeAnswer",
    "RequestAnswer",
    "RequestSummary",
    "StatsAnswer",
    "StatsItem",
    "StatusAnswer",
    "json_response",
]


class Answer(msgspec.Struct, frozen=True):
    """Base of all answers."""


class AcceptedAnswer(Answer, frozen=True, omit_defaults=True):
    """A request that is in the log; `Location` tells where to ask for its outcome."""

    id: str
    status: str
    mode: str
    operation: str
    accepted_at: str | None = None
    client_reference: str | None = None


class CancelAnswer(Answer, frozen=True):
    """A cancellation that is in the log; the request ends `failed` unless its outcome comes first."""

    id: str
    status: str
    cancel_requested_at: str


class ErrorAnswer(Answer, frozen=True, omit_defaults=True):
    """Why a request failed. `code` is stable: branch on it."""

    code: str
    message: str
    type: str | None = None
    signal: str | None = None
    exit_code: int | None = None
    limit_ms: int | None = None
    peak_rss_bytes: int | None = None


class OutcomeAnswer(Answer, frozen=True, omit_defaults=True):
    """The outcome of a sync call: `result` when it succeeded, `error` when it failed."""

    id: str
    status: str
    mode: str
    operation: str
    result: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    error: ErrorAnswer | None = None
    attempts: int = 0
    queue_ms: float | None = None
    compute_ms: float | None = None
    accepted_at: str | None = None
    finished_at: str | None = None
    client_reference: str | None = None


class RequestSummary(Answer, frozen=True):
    """A request as listings show it.

    `attempts` counts the runs of the process that finished it, and `queue_ms` is how long the last of them
    waited for a slot: what went before a death of that process is told by the request's events. `started_at`
    and `worker` are known of requests only that ran for long enough to be announced.
    `callback_attempt_count` counts since the last replay.
    """

    id: str
    mode: str
    source: str
    operation: str
    status: str
    callback_status: str
    accepted_at: str
    client_reference: str | None
    callback_url: str | None
    timeout_ms: int | None
    expires_at: str | None
    started_at: str | None
    finished_at: str | None
    worker: str | None
    attempts: int
    queue_ms: float | None
    compute_ms: float | None
    error_code: str | None
    error_message: str | None
    callback_attempt_count: int
    callback_at: str | None
    callback_retry_at: str | None
    replay_count: int


class ListAnswer(Answer, frozen=True):
    """Newest first. `next` is the cursor of the following page, null on the last."""

    items: tuple[RequestSummary, ...]
    next: str | None


class EventAnswer(Answer, frozen=True):
    """One record about a request. `superseded` marks one that changed nothing; long `data` is left out."""

    topic: str
    partition: int
    offset: int
    type: str
    event_id: str | None
    at: str
    data: msgspec.Raw
    data_bytes: int | None
    note: str | None
    anomaly: str | None
    superseded: bool


class CallbackAttemptAnswer(Answer, frozen=True):
    """One call of the receiver."""

    attempt: int
    outcome: str
    url: str
    at: str
    duration_ms: float
    http_status: int | None
    error_class: str | None
    message: str | None
    response_excerpt: str | None
    retry_at: str | None
    superseded: bool


class RequestAnswer(RequestSummary, frozen=True):
    """A request with what was asked, what came of it, and its history, oldest first."""

    input: msgspec.Raw
    result: msgspec.Raw
    error: ErrorAnswer | None
    events: tuple[EventAnswer, ...]
    callback_attempts: tuple[CallbackAttemptAnswer, ...]
    truncated: bool


class StatsItem(Answer, frozen=True):
    """How many requests share mode, status and callback status."""

    mode: str
    status: str
    callback_status: str
    count: int


class StatsAnswer(Answer, frozen=True):
    """Counts of the requests that were accepted since `since`."""

    since: str
    total: int
    items: tuple[StatsItem, ...]


class LimitsAnswer(Answer, frozen=True):
    """What one run of an operation may take."""

    default_timeout_ms: int
    max_timeout_ms: int
    memory_bytes: int
    max_result_bytes: int


class OperationAnswer(Answer, frozen=True):
    """An operation that can be asked for: `input_schema` is JSON Schema, `example` an input that works.

    A new `version` says that results have changed.
    """

    name: str
    version: int
    description: str
    input_schema: dict[str, Any]
    limits: LimitsAnswer
    example: dict[str, Any]


class OperationsAnswer(Answer, frozen=True):
    """Every operation of this installation, by name."""

    items: tuple[OperationAnswer, ...]


class DestinationAnswer(Answer, frozen=True):
    """One submitter's exact URL; `url` without its query, which may be a credential. `by` changed it last."""

    id: str
    state: str
    submitter: str
    url: str
    reason: str
    by: str
    at: str


class DestinationsAnswer(Answer, frozen=True):
    """Every disabled destination, the latest first."""

    items: tuple[DestinationAnswer, ...]


class StatusAnswer(Answer, frozen=True):
    """`status` is `live`, or `ready` when every check holds, else `starting`."""

    status: str
    checks: dict[str, bool] = {}


_encoder: Final = msgspec.json.Encoder()


def json_response(answer: Answer, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """`answer` as an HTTP response."""
    return Response(_encoder.encode(answer), status, headers, media_type="application/json")
