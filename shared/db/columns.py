"""The columns that the projection writes, in the order of its rows. A group's guard is its last column."""

from typing import Final

__all__ = [
    "ATTEMPT_COLUMNS",
    "CLOSURE_COLUMNS",
    "DELIVERY_COLUMNS",
    "EVENT_COLUMNS",
    "FACTS_COLUMNS",
    "LETTER_COLUMNS",
    "OUTCOME_COLUMNS",
    "POSITION_COLUMNS",
    "REQUEST_COLUMNS",
    "STARTED_COLUMNS",
    "Row",
    "Value",
]

Value = str | int | float | None
Row = tuple[Value, ...]

POSITION_COLUMNS: Final = ("topic", "partition_no", "record_offset")
FACTS_COLUMNS: Final = (
    "mode",
    "source",
    "operation",
    "accepted_at_ms",
    "client_reference",
    "callback_url",
    "digest",
    "timeout_ms",
    "expires_at_ms",
    "facts_key",
)
STARTED_COLUMNS: Final = ("started_at_ms", "started_attempt", "worker", "started_key")
OUTCOME_COLUMNS: Final = (
    "outcome",
    "attempts",
    "finished_at_ms",
    "queue_ms",
    "compute_ms",
    "error_code",
    "error_message",
    "outcome_key",
)
DELIVERY_COLUMNS: Final = (
    "delivery",
    "delivery_attempts",
    "replay_count",
    "delivery_at_ms",
    "retry_at_ms",
    "delivery_key",
)
REQUEST_COLUMNS: Final = ("id", *FACTS_COLUMNS, *STARTED_COLUMNS, *OUTCOME_COLUMNS, *DELIVERY_COLUMNS)
EVENT_COLUMNS: Final = (
    *POSITION_COLUMNS,
    "request_id",
    "type",
    "event_id",
    "time_ms",
    "data",
    "note",
    "anomaly",
)
ATTEMPT_COLUMNS: Final = (
    *POSITION_COLUMNS,
    "request_id",
    "attempt",
    "outcome",
    "url",
    "at_ms",
    "duration_ms",
    "http_status",
    "error_class",
    "message",
    "response_excerpt",
    "retry_at_ms",
)
LETTER_COLUMNS: Final = (
    *POSITION_COLUMNS,
    "request_id",
    "mode",
    "source",
    "operation",
    "reason",
    "message",
    "origin",
    "url",
    "attempts",
    "replay_count",
    "first_failed_at_ms",
    "dead_lettered_at_ms",
)
CLOSURE_COLUMNS: Final = (
    *POSITION_COLUMNS,
    "closed_as",
    "closed_by",
    "closed_reason",
    "closed_at_ms",
    "closed_key",
)
