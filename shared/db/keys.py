"""Places in the log as text that sorts as the log does: the guards of the projection's column groups.

Fixed widths make the comparison of two keys in SQL, byte by byte, the comparison of the places.
"""

from typing import Final

from shared.kafka.records import Record
from shared.kafka.topics import Topic

__all__ = [
    "DELIVERED_MARK",
    "PROJECTED_TOPICS",
    "delivered_key",
    "facts_key",
    "order_key",
    "order_key_of",
    "place_of",
    "submission_of",
]

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
    return order_key_of(record.partition, record.offset)


def order_key_of(partition: int, offset: int) -> str:
    """The order key of a place."""
    return f"{partition:06d}-{offset:019d}"


def delivered_key(key: str) -> str:
    """The key of a record after which nothing counts."""
    return DELIVERED_MARK + key


def place_of(key: str) -> tuple[int, int]:
    """Partition and offset that an order key, or a delivered key, stands for."""
    partition, offset = key.removeprefix(DELIVERED_MARK).split("-")
    return int(partition), int(offset)


def submission_of(key: str) -> tuple[Topic, int, int] | None:
    """Where the winning submission lies, by a facts key; None when none has been seen."""
    kind, _, rank, partition, offset = key.split("-")
    return (PROJECTED_TOPICS[int(rank)], int(partition), int(offset)) if int(kind) == _SUBMISSION else None
