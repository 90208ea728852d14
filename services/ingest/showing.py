"""From outcomes and rows of the read side to answers.

Times are RFC 3339 in UTC with milliseconds. Inputs and results are the very text that was submitted and
computed. What a URL may carry as a credential is left out.
"""

from typing import Any, Final

import msgspec

from services.ingest.answers import (
    CallbackAttemptAnswer,
    ErrorAnswer,
    EventAnswer,
    ListAnswer,
    OutcomeAnswer,
    RequestAnswer,
    RequestSummary,
)
from shared.db.views import CallbackAttemptView, RequestDetail, RequestPage, RequestView, TimelineEntry
from shared.domain.callback_urls import shown_url
from shared.domain.requests import Failure, RequestFailed, RequestSucceeded
from shared.domain.types import JsonText
from shared.events.envelope import format_time

__all__ = ["list_answer", "outcome_answer", "outcome_of_detail", "request_answer"]

_NULL: Final = msgspec.Raw(b"null")
_encoder: Final = msgspec.json.Encoder()
_fields_decoder: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_url_decoder: Final = msgspec.json.Decoder(str | None)


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
    if "://" not in data:
        return _raw(data)
    fields = _fields_decoder.decode(data)
    urls = {name: _url_decoder.decode(fields[name]) for name in ("callback_url", "url") if name in fields}
    shown = {name: msgspec.Raw(_encoder.encode(shown_url(url))) for name, url in urls.items() if url}
    return msgspec.Raw(_encoder.encode(fields | shown)) if shown else _raw(data)


def _raw(text: JsonText) -> msgspec.Raw:
    return msgspec.Raw(text.encode())


def _time(time_ms: int | None) -> str | None:
    return None if time_ms is None else format_time(time_ms)
