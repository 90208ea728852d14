"""What the API answers with. The bytes sent and the documentation's schemas come from the same structures.

Times are RFC 3339 in UTC with milliseconds. Inputs and results are the very text that was submitted and
computed.
"""

from collections.abc import Mapping
from typing import Any, Final

import msgspec
from starlette.responses import Response

from shared.db.views import CallbackAttemptView, RequestDetail, RequestPage, RequestView, TimelineEntry
from shared.domain.callback_urls import shown_url
from shared.domain.requests import Failure, RequestFailed, RequestSucceeded
from shared.domain.types import JsonText
from shared.events.envelope import format_time

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
    "list_answer",
    "outcome_answer",
    "outcome_of_detail",
    "request_answer",
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
    """A request as listings show it. `callback_attempt_count` counts since the last replay."""

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


_NULL: Final = msgspec.Raw(b"null")
_encoder: Final = msgspec.json.Encoder()
_fields_decoder: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_url_decoder: Final = msgspec.json.Decoder(str | None)


def json_response(answer: Answer, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """`answer` as an HTTP response."""
    return Response(_encoder.encode(answer), status, headers, media_type="application/json")


def outcome_answer(outcome: RequestSucceeded | RequestFailed) -> OutcomeAnswer:
    """The outcome event of a request as the answer to who waited for it."""
    succeeded = isinstance(outcome, RequestSucceeded)
    return OutcomeAnswer(
        id=outcome.request_id,
        status="succeeded" if succeeded else "failed",
        mode=outcome.mode,
        operation=outcome.operation,
        result=_raw(outcome.result) if isinstance(outcome, RequestSucceeded) else msgspec.UNSET,
        error=error_answer(outcome.error) if isinstance(outcome, RequestFailed) else None,
        attempts=outcome.attempts,
        queue_ms=outcome.queue_ms,
        compute_ms=outcome.compute_ms,
        accepted_at=format_time(outcome.accepted_at_ms),
        finished_at=format_time(outcome.finished_at_ms),
        client_reference=outcome.client_reference,
    )


def outcome_of_detail(detail: RequestDetail) -> OutcomeAnswer:
    """The same answer, from the read side."""
    view = detail.request
    return OutcomeAnswer(
        id=view.id,
        status=view.status,
        mode=view.mode,
        operation=view.operation,
        result=msgspec.UNSET if detail.result is None else _raw(detail.result),
        error=None if detail.error is None else error_answer(detail.error),
        attempts=view.attempts,
        queue_ms=view.queue_ms,
        compute_ms=view.compute_ms,
        accepted_at=format_time(view.accepted_at_ms),
        finished_at=_time(view.finished_at_ms),
        client_reference=view.client_reference,
    )


def error_answer(failure: Failure) -> ErrorAnswer:
    """Why a request failed."""
    return ErrorAnswer(
        code=failure.code,
        message=failure.message,
        type=failure.type,
        signal=failure.signal,
        exit_code=failure.exit_code,
        limit_ms=failure.limit_ms,
        peak_rss_bytes=failure.peak_rss_bytes,
    )


def list_answer(page: RequestPage) -> ListAnswer:
    """A page of requests."""
    items = tuple(RequestSummary(**_summary(view)) for view in page.items)
    return ListAnswer(items=items, next=page.next)


def request_answer(detail: RequestDetail) -> RequestAnswer:
    """One request with its history."""
    return RequestAnswer(
        **_summary(detail.request),
        input=_NULL if detail.input is None else _raw(detail.input),
        result=_NULL if detail.result is None else _raw(detail.result),
        error=None if detail.error is None else error_answer(detail.error),
        events=tuple(map(_event, detail.events)),
        callback_attempts=tuple(map(_attempt, detail.callback_attempts)),
        truncated=detail.truncated,
    )


def _summary(view: RequestView) -> dict[str, Any]:
    return {
        "id": view.id,
        "mode": view.mode,
        "source": view.source,
        "operation": view.operation,
        "status": view.status,
        "callback_status": view.callback_status,
        "accepted_at": format_time(view.accepted_at_ms),
        "client_reference": view.client_reference,
        "callback_url": None if view.callback_url is None else shown_url(view.callback_url),
        "timeout_ms": view.timeout_ms,
        "expires_at": _time(view.expires_at_ms),
        "started_at": _time(view.started_at_ms),
        "finished_at": _time(view.finished_at_ms),
        "worker": view.worker,
        "attempts": view.attempts,
        "queue_ms": view.queue_ms,
        "compute_ms": view.compute_ms,
        "error_code": view.error_code,
        "error_message": view.error_message,
        "callback_attempt_count": view.callback_attempts,
        "callback_at": _time(view.callback_at_ms),
        "callback_retry_at": _time(view.callback_retry_at_ms),
        "replay_count": view.replay_count,
    }


def _event(entry: TimelineEntry) -> EventAnswer:
    return EventAnswer(
        topic=entry.topic,
        partition=entry.partition,
        offset=entry.offset,
        type=entry.type,
        event_id=entry.event_id,
        at=format_time(entry.time_ms),
        data=_NULL if entry.data is None else _shown_data(entry.data),
        data_bytes=entry.data_bytes,
        note=entry.note,
        anomaly=entry.anomaly,
        superseded=entry.superseded,
    )


def _attempt(view: CallbackAttemptView) -> CallbackAttemptAnswer:
    return CallbackAttemptAnswer(
        attempt=view.attempt,
        outcome=view.outcome,
        url=shown_url(view.url),
        at=format_time(view.at_ms),
        duration_ms=view.duration_ms,
        http_status=view.http_status,
        error_class=view.error_class,
        message=view.message,
        response_excerpt=view.response_excerpt,
        retry_at=_time(view.retry_at_ms),
        superseded=view.superseded,
    )


def _shown_data(data: JsonText) -> msgspec.Raw:
    """An event's data as it is, but for what a URL in it may carry."""
    if "?" not in data:
        return _raw(data)
    fields = _fields_decoder.decode(data)
    urls = {name: _url_decoder.decode(fields[name]) for name in ("callback_url", "url") if name in fields}
    shown = {name: msgspec.Raw(_encoder.encode(shown_url(url))) for name, url in urls.items() if url}
    return msgspec.Raw(_encoder.encode(fields | shown)) if shown else _raw(data)


def _raw(text: JsonText) -> msgspec.Raw:
    return msgspec.Raw(text.encode())


def _time(time_ms: int | None) -> str | None:
    return None if time_ms is None else format_time(time_ms)
