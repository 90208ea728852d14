"""Small value types that the whole domain speaks in."""

from dataclasses import dataclass
from enum import StrEnum
from typing import NewType, TypedDict

__all__ = ["JsonBytes", "JsonText", "Mode", "RequestEvent", "RequestFacts", "RequestId", "facts_of"]

RequestId = NewType("RequestId", str)
"""Canonical lower-case UUID text."""

JsonText = NewType("JsonText", str)
"""A JSON document as text, carried from producer to receiver without being parsed and written anew."""

JsonBytes = NewType("JsonBytes", memoryview)
"""A JSON document as bytes: a view of the record that it came in, so that there is no second copy of it."""


class Mode(StrEnum):
    """How the submitter learns of the outcome: in the same call, or later."""

    SYNC = "sync"
    ASYNC = "async"


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestEvent:
    """What every event of a request carries, so that a row can be born from any topic.

    `source` names who submitted (`rest`, or what a direct producer calls itself). `accepted_at_ms` is the
    broker's timestamp of the request's record: the one clock that submitters cannot set.
    """

    request_id: RequestId
    mode: Mode
    source: str
    operation: str
    accepted_at_ms: int


class RequestFacts(TypedDict):
    """The fields of `RequestEvent`, to be handed on to the next event of the same request."""

    request_id: RequestId
    mode: Mode
    source: str
    operation: str
    accepted_at_ms: int


def facts_of(event: RequestEvent) -> RequestFacts:
    """What an event that follows `event` repeats of it."""
    return RequestFacts(
        request_id=event.request_id,
        mode=event.mode,
        source=event.source,
        operation=event.operation,
        accepted_at_ms=event.accepted_at_ms,
    )
