"""When a tier's record is due, as its headers tell: its body is not decoded before."""

from dataclasses import dataclass
from typing import Final

from services.callback.ports import WaitsFor
from shared.domain.callbacks import Delivery
from shared.events.codec import MalformedEventError, UnknownEventError, decode
from shared.events.envelope import Headers, first_header
from shared.kafka.records import Record

__all__ = ["Schedule", "read_schedule", "waits_for_headers"]

NOT_BEFORE: Final = "not-before"
ORIGIN: Final = "waits-for-origin"
DESTINATION: Final = "waits-for-destination"
LONGEST_NUMBER: Final = 15
"""Digits of a time in ms: some ten thousand years."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """Due at `not_before_ms`; a deferred delivery may go before, once its destination takes it."""

    not_before_ms: int
    waits_for: WaitsFor | None = None


def read_schedule(record: Record) -> Schedule | None:
    """When `record` is due; None when it does not say, and its handler is to find out why.

    Records of earlier releases have no such headers and are decoded.
    """
    not_before = first_header(record.headers, NOT_BEFORE) or ""
    if not (not_before.isascii() and not_before.isdigit() and len(not_before) <= LONGEST_NUMBER):
        return _decoded(record)
    origin = first_header(record.headers, ORIGIN)
    destination = first_header(record.headers, DESTINATION)
    waits_for = WaitsFor(origin, destination) if origin and destination else None
    return Schedule(int(not_before), waits_for)


def waits_for_headers(waits_for: WaitsFor | None) -> Headers:
    """Headers of a delivery that was deferred until that destination takes it."""
    if waits_for is None:
        return ()
    return ((ORIGIN, waits_for.origin.encode()), (DESTINATION, waits_for.destination.encode()))


def _decoded(record: Record) -> Schedule | None:
    try:
        _, event = decode(record.headers, record.value)
    except (MalformedEventError, UnknownEventError):
        return None
    return Schedule(event.not_before_ms) if isinstance(event, Delivery) else None
