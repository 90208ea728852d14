"""Events of consuma's own topics, to bytes and back.

One table names every type. The wire structures are derived from the domain's dataclasses, so that there is
one definition; fields of type `JsonText` pass through as the very bytes they came as. Within a version only
optional fields are added; anything else is a new version with an upcaster at read.
"""

from dataclasses import dataclass
from typing import Final, TypeVar, cast

import msgspec

from shared.domain.callbacks import (
    CallbackAttempted,
    CallbackDeadLettered,
    CallbackDelivered,
    CallbackDiscarded,
    CallbackReplayed,
    Delivery,
    DeliveryDeadLettered,
)
from shared.domain.destinations import DestinationDisabled, DestinationEnabled
from shared.domain.requests import (
    RequestCancelled,
    RequestDeadLettered,
    RequestFailed,
    RequestStarted,
    RequestSucceeded,
)
from shared.domain.types import RequestEvent
from shared.events.envelope import Envelope, Headers, format_time, read_envelope, write
from shared.events.wire import wire_of

__all__ = [
    "EVENT_TYPES",
    "EncodedEvent",
    "Event",
    "MalformedEventError",
    "Origin",
    "UnknownEventError",
    "decode",
    "decode_as",
    "encode",
    "type_name",
]

Event = (
    RequestStarted
    | RequestSucceeded
    | RequestFailed
    | RequestCancelled
    | RequestDeadLettered
    | CallbackAttempted
    | CallbackDelivered
    | CallbackDeadLettered
    | CallbackReplayed
    | CallbackDiscarded
    | Delivery
    | DeliveryDeadLettered
    | DestinationDisabled
    | DestinationEnabled
)

EVENT_TYPES: Final[dict[str, type[Event]]] = {
    "consuma.request.started.v1": RequestStarted,
    "consuma.request.succeeded.v1": RequestSucceeded,
    "consuma.request.failed.v1": RequestFailed,
    "consuma.request.cancelled.v1": RequestCancelled,
    "consuma.request.dead_lettered.v1": RequestDeadLettered,
    "consuma.callback.attempted.v1": CallbackAttempted,
    "consuma.callback.delivered.v1": CallbackDelivered,
    "consuma.callback.dead_lettered.v1": CallbackDeadLettered,
    "consuma.callback.replayed.v1": CallbackReplayed,
    "consuma.callback.discarded.v1": CallbackDiscarded,
    "consuma.delivery.postponed.v1": Delivery,
    "consuma.delivery.dead_lettered.v1": DeliveryDeadLettered,
    "consuma.destination.disabled.v1": DestinationDisabled,
    "consuma.destination.enabled.v1": DestinationEnabled,
}
_encoder: Final = msgspec.json.Encoder()
_NAMES: Final = {event_class: name for name, event_class in EVENT_TYPES.items()}

E = TypeVar("E")


class UnknownEventError(ValueError):
    """A record of one of our own topics names a type or version that this release does not know."""


class MalformedEventError(ValueError):
    """A record of one of our own topics does not hold what its type promises."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Who writes an event, and when: what the domain leaves to the shell."""

    event_id: str
    source: str
    now_ms: int
    traceparent: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodedEvent:
    """An event as a record's key, value and headers."""

    key: bytes | None
    value: bytes
    headers: Headers


def type_name(event: Event) -> str:
    """`consuma.<subject>.<past tense>.v<n>` of an event."""
    return _NAMES[type(event)]


def encode(event: Event, origin: Origin) -> EncodedEvent:
    """`event` as a record, keyed by the id of its request or destination."""
    facts = _facts(event)
    subject = facts.request_id if facts else _subject(event)
    envelope = Envelope(
        id=origin.event_id,
        type=_NAMES[type(event)],
        source=origin.source,
        time=format_time(origin.now_ms),
        subject=subject,
        traceparent=origin.traceparent,
    )
    return EncodedEvent(
        key=subject.encode() if subject else None,
        value=_encoder.encode(wire_of(type(event)).to_wire(event)),
        headers=write(envelope, _extensions(facts)) + _schedule(event),
    )


def decode(headers: Headers, value: bytes | None) -> tuple[Envelope, Event]:
    """The event in a record of one of consuma's own topics.

    Raises:
        UnknownEventError: its type or version is not known.
        MalformedEventError: it has no envelope, or its data does not fit its type.
    """
    envelope = read_envelope(headers)
    if envelope is None:
        raise MalformedEventError("a record without CloudEvents headers")
    event_class = EVENT_TYPES.get(envelope.type)
    if event_class is None:
        raise UnknownEventError(f"unknown event type {envelope.type!r}")
    return envelope, decode_as(event_class, value)


def decode_as(event_class: type[E], value: bytes | None) -> E:
    """The data of an event whose class is known.

    Raises:
        MalformedEventError: the data does not fit the class.
    """
    wire = wire_of(event_class)
    try:
        return cast("E", wire.from_wire(wire.decoder.decode(value or b"")))
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise MalformedEventError(f"{event_class.__name__}: {error}") from None


def _schedule(event: Event) -> Headers:
    """When a delivery is due, and how often it was tried: what a tier's reader needs without its body."""
    if not isinstance(event, Delivery):
        return ()
    return (
        ("not-before", b"%d" % event.not_before_ms),
        ("attempt", b"%d" % event.attempt),
        ("deferrals", b"%d" % event.deferrals),
    )


def _facts(event: Event) -> RequestEvent | None:
    if isinstance(event, DeliveryDeadLettered):
        return event.delivery
    return event if isinstance(event, RequestEvent) else None


def _subject(event: Event) -> str | None:
    if isinstance(event, DestinationDisabled | DestinationEnabled):
        return event.destination_id
    return getattr(event, "request_id", None)


def _extensions(facts: RequestEvent | None) -> tuple[tuple[str, str], ...]:
    if facts is None:
        return ()
    return (
        ("mode", facts.mode),
        ("requestsource", facts.source),
        ("operation", facts.operation),
        ("acceptedat", format_time(facts.accepted_at_ms)),
    )
