"""Rows of the read side as what people are shown of them. Pure."""

from collections.abc import Mapping
from typing import Any, Final

from shared.db.keys import DELIVERED_MARK, PROJECTED_TOPICS, order_key_of, submission_of
from shared.db.views import CallbackAttemptView, RequestView, TimelineEntry
from shared.domain.callbacks import CallbackStatus
from shared.domain.requests import RequestStatus
from shared.domain.types import Mode
from shared.kafka.topics import Topic

__all__ = ["attempt_view", "in_order", "request_view", "timeline_entry"]

Row = Mapping[Any, Any]

_SUBMISSIONS: Final = (Topic.REQUESTS, Topic.REQUESTS_SYNC)


def request_view(row: Row) -> RequestView:
    """A row of `requests`."""
    return RequestView(
        id=row["id"],
        mode=Mode(row["mode"]),
        source=row["source"],
        operation=row["operation"],
        status=RequestStatus(row["status"]),
        callback_status=CallbackStatus(row["callback_status"]),
        accepted_at_ms=row["accepted_at_ms"],
        client_reference=row["client_reference"],
        callback_url=row["callback_url"],
        digest=row["digest"],
        timeout_ms=row["timeout_ms"],
        expires_at_ms=row["expires_at_ms"],
        started_at_ms=row["started_at_ms"],
        worker=row["worker"],
        attempts=row["attempts"] or row["started_attempt"] or 0,
        finished_at_ms=row["finished_at_ms"],
        queue_ms=row["queue_ms"],
        compute_ms=row["compute_ms"],
        error_code=row["error_code"],
        error_message=row["error_message"],
        callback_attempts=row["delivery_attempts"] or 0,
        callback_at_ms=row["delivery_at_ms"],
        callback_retry_at_ms=row["retry_at_ms"],
        replay_count=row["replay_count"] or 0,
    )


def timeline_entry(row: Row, request: Row, topic_prefix: str) -> TimelineEntry:
    """A row of `request_events` of the request that is shown."""
    return TimelineEntry(
        topic=row["topic"],
        partition=row["partition_no"],
        offset=row["record_offset"],
        type=row["type"],
        event_id=row["event_id"],
        time_ms=row["time_ms"],
        data=row["data"],
        data_bytes=row["data_bytes"],
        note=row["note"],
        anomaly=row["anomaly"],
        superseded=row["anomaly"] is None and _superseded(row, request, topic_prefix),
    )


def attempt_view(row: Row, request: Row) -> CallbackAttemptView:
    """A row of `callback_attempts` of the request that is shown."""
    return CallbackAttemptView(
        attempt=row["attempt"],
        outcome=row["outcome"],
        url=row["url"],
        at_ms=row["at_ms"],
        duration_ms=row["duration_ms"],
        http_status=row["http_status"],
        error_class=row["error_class"],
        message=row["message"],
        response_excerpt=row["response_excerpt"],
        retry_at_ms=row["retry_at_ms"],
        superseded=_after_delivery(row, request),
    )


def in_order(row: Row, topic_prefix: str) -> tuple[int, int, int, int]:
    """Sorts a timeline: by time, and what happened in the same millisecond along a request's way."""
    topic = row["topic"].removeprefix(topic_prefix)
    rank = PROJECTED_TOPICS.index(topic) if topic in PROJECTED_TOPICS else len(PROJECTED_TOPICS)
    return (row["time_ms"], rank, row["partition_no"], row["record_offset"])


def _superseded(row: Row, request: Row, topic_prefix: str) -> bool:
    """Whether the record changed nothing: another one of its kind counts."""
    topic = row["topic"].removeprefix(topic_prefix)
    if topic in _SUBMISSIONS:
        return submission_of(request["facts_key"]) != (topic, row["partition_no"], row["record_offset"])
    if topic == Topic.RESULTS:
        outcome_key: str | None = request["outcome_key"]
        return outcome_key is not None and _key(row) > outcome_key
    return topic == Topic.CALLBACKS and _after_delivery(row, request)


def _after_delivery(row: Row, request: Row) -> bool:
    delivery_key: str = request["delivery_key"] or ""
    return delivery_key.startswith(DELIVERED_MARK) and DELIVERED_MARK + _key(row) > delivery_key


def _key(row: Row) -> str:
    return order_key_of(row["partition_no"], row["record_offset"])
