"""Places in the log as text that sorts as the log does: the guards of the projection's column groups.

Fixed widths make the comparison of two keys in SQL, byte by byte, the comparison of the places.
"""

from typing import Final

from shared.kafka.records import Record
from shared.kafka.topics import Topic

__all__ = ["DELIVERED_MARK", "PROJECTED_TOPICS", "delivered_key", "facts_key", "order_key"]

PROJECTED_TOPICS: Final = (
    Topic.REQUESTS,
    Topic.REQUESTS_SYNC,
    Topic.RESULTS,
    Topic.REQUESTS_CANCELLED,
    Topic.CALLBACKS,
    Topic.CALLBACKS_DLQ,
    Topic.REQUESTS_DLQ,
)
"""What the projector reads. The order is part of every stored facts key: append to it, never reorder."""

DELIVERED_MARK: Final = "~"
"""Sorts behind every digit, so that a delivery which is done outlives whatever is told later."""

_SUBMISSION: Final = 0
_OTHER: Final = 1


def facts_key(topic: Topic, record: Record) -> str:
    """The lowest of a request's records tells its facts: the first submission, else the first event.

    First means by the record's timestamp, then topic, partition and offset.
    """
    kind = _SUBMISSION if topic in (Topic.REQUESTS, Topic.REQUESTS_SYNC) else _OTHER
    rank = PROJECTED_TOPICS.index(topic)
    return f"{kind}-{max(record.timestamp_ms, 0):019d}-{rank}-{order_key(record)}"


def order_key(record: Record) -> str:
    """Place of a record among those of its own topic; all of one request's lie in one partition."""
    return f"{record.partition:06d}-{record.offset:019d}"


def delivered_key(key: str) -> str:
    """The key of a record after which nothing counts."""
    return DELIVERED_MARK + key
