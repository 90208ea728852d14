"""The read side as SQLAlchemy tables: what queries are built from.

The schema itself is made by the migrations; a test holds both equal. Three rules shape it:

- Times are BIGINT milliseconds since the epoch, exactly as in the events: no session time zone, rounding or
  range can change them (`FROM_UNIXTIME(accepted_at_ms / 1000)` shows one).
- Ids and keys are ASCII, names are UTF-8, both compared byte by byte. Payloads are text exactly as in the
  event: the JSON type of either database rewrites numbers and refuses documents that the log holds.
- A `…_key` column is the guard of its column group: the place in the log of the record that the group was
  last written from, in digits that sort as the log does.

Payloads lie in `request_events` alone, which is only ever inserted into; `requests` stays narrow, since it is
updated two or three times in a request's life and is what listings read.
"""

from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    Column,
    Computed,
    Double,
    Index,
    Integer,
    MetaData,
    PrimaryKeyConstraint,
    Table,
)
from sqlalchemy.dialects.mysql import CHAR, LONGTEXT, VARCHAR

__all__ = [
    "NAME_LENGTH",
    "NOTE_LENGTH",
    "REFERENCE_LENGTH",
    "URL_LENGTH",
    "callback_attempts",
    "dead_letters",
    "metadata",
    "projection_offsets",
    "replay_jobs",
    "request_events",
    "requests",
]

NAME_LENGTH: Final = 128
REFERENCE_LENGTH: Final = 255
URL_LENGTH: Final = 2_048
NOTE_LENGTH: Final = 1_024
KEY_LENGTH: Final = 64
TOPIC_LENGTH: Final = 249
"""Kafka's own limit."""

ASCII: Final = {"charset": "ascii", "collation": "ascii_bin"}
UTF8: Final = {"charset": "utf8mb4", "collation": "utf8mb4_bin"}
TABLE: Final[dict[str, Any]] = {
    "mysql_engine": "InnoDB",
    "mysql_default_charset": "utf8mb4",
    "mysql_collate": "utf8mb4_bin",
    "mysql_row_format": "DYNAMIC",
}

metadata: Final = MetaData()


def _uuid() -> CHAR:
    return CHAR(36, **ASCII)


def _word(length: int = 32) -> VARCHAR:
    return VARCHAR(length, **ASCII)


def _text(length: int) -> VARCHAR:
    return VARCHAR(length, **UTF8)


def _position() -> tuple[Column[str], Column[int], Column[int]]:
    """Where a record lies: the columns that make it unique."""
    return (
        Column("topic", _word(TOPIC_LENGTH), nullable=False),
        Column("partition_no", Integer, nullable=False),
        Column("record_offset", BigInteger, nullable=False),
    )


requests: Final = Table(
    "requests",
    metadata,
    Column("id", _uuid(), primary_key=True),
    # Facts: the winning submission; until it is seen, what any other event of the request says.
    Column("mode", _word(8), nullable=False),
    Column("source", _text(NAME_LENGTH), nullable=False),
    Column("operation", _text(NAME_LENGTH), nullable=False),
    Column("accepted_at_ms", BigInteger, nullable=False),
    Column("client_reference", _text(REFERENCE_LENGTH)),
    Column("callback_url", _text(URL_LENGTH)),
    Column("digest", _word(64)),
    Column("timeout_ms", BigInteger),
    Column("expires_at_ms", BigInteger),
    Column("facts_key", _word(KEY_LENGTH), nullable=False),
    # The last computation that was announced as started before the outcome.
    Column("started_at_ms", BigInteger),
    Column("started_attempt", BigInteger),
    Column("worker", _text(NAME_LENGTH)),
    Column("started_key", _word(KEY_LENGTH)),
    # The outcome: the first terminal record.
    Column("outcome", _word(16)),
    Column("attempts", BigInteger),
    Column("finished_at_ms", BigInteger),
    Column("queue_ms", Double),
    Column("compute_ms", Double),
    Column("error_code", _word()),
    Column("error_message", _text(NOTE_LENGTH)),
    Column("outcome_key", _word(KEY_LENGTH)),
    # The callback: delivered for good, or as its last fact says.
    Column("delivery", _word(16)),
    Column("delivery_attempts", BigInteger),
    Column("replay_count", BigInteger),
    Column("delivery_at_ms", BigInteger),
    Column("retry_at_ms", BigInteger),
    Column("delivery_key", _word(KEY_LENGTH)),
    Column(
        "status",
        _word(16),
        Computed("COALESCE(outcome, IF(started_key IS NULL, 'accepted', 'running'))", persisted=True),
    ),
    Column(
        "callback_status",
        _word(16),
        Computed("COALESCE(delivery, IF(callback_url IS NULL, 'none', 'pending'))", persisted=True),
    ),
    Index("ix_requests_accepted", "accepted_at_ms", "id", "mode", "status", "callback_status"),
    Index("ix_requests_mode", "mode", "accepted_at_ms", "id"),
    Index("ix_requests_mode_status", "mode", "status", "accepted_at_ms", "id"),
    Index("ix_requests_status", "status", "accepted_at_ms", "id"),
    Index("ix_requests_callback_status", "callback_status", "accepted_at_ms", "id"),
    Index("ix_requests_operation", "operation", "accepted_at_ms", "id"),
    Index("ix_requests_source", "source", "accepted_at_ms", "id"),
    Index("ix_requests_client_reference", "client_reference"),
    **TABLE,
)

request_events: Final = Table(
    "request_events",
    metadata,
    *_position(),
    Column("request_id", _uuid()),
    Column("type", _text(NAME_LENGTH), nullable=False),
    Column("event_id", _text(NAME_LENGTH)),
    Column("time_ms", BigInteger, nullable=False),
    Column("data", LONGTEXT(**UTF8)),
    Column("note", _text(NOTE_LENGTH)),
    Column("anomaly", _text(NOTE_LENGTH)),
    PrimaryKeyConstraint("topic", "partition_no", "record_offset"),
    Index("ix_request_events_request", "request_id", "time_ms"),
    **TABLE,
)
"""The timeline: one row for each record, written once. `data` is the event's JSON; for a submission it is
the decoded request, since producers may write one in several shapes. `anomaly` says why a record could not
be understood; `note` says in words what a record without data was about."""

callback_attempts: Final = Table(
    "callback_attempts",
    metadata,
    *_position(),
    Column("request_id", _uuid(), nullable=False),
    Column("attempt", BigInteger, nullable=False),
    Column("outcome", _word(16), nullable=False),
    Column("url", _text(URL_LENGTH), nullable=False),
    Column("at_ms", BigInteger, nullable=False),
    Column("duration_ms", Double, nullable=False),
    Column("http_status", BigInteger),
    Column("error_class", _word()),
    Column("message", _text(NOTE_LENGTH)),
    Column("response_excerpt", _text(NOTE_LENGTH)),
    Column("retry_at_ms", BigInteger),
    PrimaryKeyConstraint("topic", "partition_no", "record_offset"),
    Index("ix_callback_attempts_request", "request_id", "at_ms"),
    **TABLE,
)

dead_letters: Final = Table(
    "dead_letters",
    metadata,
    *_position(),
    # The letter itself; NULL until it is seen, since the fact that closed it comes from another topic.
    Column("request_id", _uuid()),
    Column("mode", _word(8)),
    Column("source", _text(NAME_LENGTH)),
    Column("operation", _text(NAME_LENGTH)),
    Column("reason", _text(NAME_LENGTH)),
    Column("message", _text(NOTE_LENGTH)),
    Column("origin", _text(REFERENCE_LENGTH + 64)),
    Column("url", _text(URL_LENGTH)),
    Column("attempts", BigInteger),
    Column("replay_count", BigInteger),
    Column("first_failed_at_ms", BigInteger),
    Column("dead_lettered_at_ms", BigInteger),
    # What became of it: the last fact that names it.
    Column("closed_as", _word(16)),
    Column("closed_by", _text(NAME_LENGTH)),
    Column("closed_reason", _text(NOTE_LENGTH)),
    Column("closed_at_ms", BigInteger),
    Column("closed_key", _word(KEY_LENGTH)),
    Column("state", _word(16), Computed("COALESCE(closed_as, 'open')", persisted=True)),
    PrimaryKeyConstraint("topic", "partition_no", "record_offset"),
    Index("ix_dead_letters_state", "topic", "state", "dead_lettered_at_ms"),
    Index("ix_dead_letters_request", "request_id"),
    **TABLE,
)
"""What lies in the dead-letter topics, for listings and plans; the letters' bytes stay in the log."""

projection_offsets: Final = Table(
    "projection_offsets",
    metadata,
    Column("projector", _word(64), nullable=False),
    Column("topic", _word(TOPIC_LENGTH), nullable=False),
    Column("partition_no", Integer, nullable=False),
    Column("next_offset", BigInteger, nullable=False),
    PrimaryKeyConstraint("projector", "topic", "partition_no"),
    **TABLE,
)
"""Where each projector goes on: its consumer's position, moved in the transaction of the batch."""

replay_jobs: Final = Table(
    "replay_jobs",
    metadata,
    Column("id", _uuid(), primary_key=True),
    Column("dlq", _word(TOPIC_LENGTH), nullable=False),
    Column("state", _word(16), nullable=False),
    Column("requested_by", _text(NAME_LENGTH), nullable=False),
    Column("reason", _text(NOTE_LENGTH), nullable=False),
    Column("requested_at_ms", BigInteger, nullable=False),
    Column("finished_at_ms", BigInteger),
    **TABLE,
)
"""Replay jobs as their events tell; no event type of theirs is projected yet."""
