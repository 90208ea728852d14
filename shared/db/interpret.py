"""What a record of the log means to the read side. Pure: no database, no clock.

A record either is understood, or is not a request at all (compute makes a dead letter of it), or is an
anomaly: one of our own topics holds what this release cannot read. An anomaly is kept in the timeline with
its reason and stops nothing.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Final

import msgspec

from shared.db.tables import NAME_LENGTH, REFERENCE_LENGTH, URL_LENGTH
from shared.domain.callbacks import DeliveryDeadLettered
from shared.domain.destinations import DestinationDisabled, DestinationEnabled
from shared.domain.identity import canonical_uuid
from shared.domain.requests import RequestDeadLettered, RequestSubmitted
from shared.domain.types import Mode, RequestEvent
from shared.events.codec import Event, MalformedEventError, UnknownEventError, decode
from shared.events.envelope import read_envelope
from shared.events.submission import SUBMITTED_TYPE, Submission, SubmissionError, decode_submission
from shared.events.submit_keys import NO_KEYS, SubmitKeys
from shared.events.wire import wire_of
from shared.kafka.records import Record
from shared.kafka.topics import Topic

__all__ = [
    "REQUEST_MODES",
    "Anomaly",
    "Interpretation",
    "Skipped",
    "Understood",
    "interpret",
    "interpret_submission",
]

REQUEST_MODES: Final = {Topic.REQUESTS: Mode.ASYNC, Topic.REQUESTS_SYNC: Mode.SYNC}
_DEAD_LETTERS: Final = frozenset({Topic.REQUESTS_DLQ, Topic.CALLBACKS_DLQ})
_INT64: Final = range(-(2**63), 2**63)
_LONGEST: Final = {
    "source": NAME_LENGTH,
    "operation": NAME_LENGTH,
    "client_reference": REFERENCE_LENGTH,
    "callback_url": URL_LENGTH,
    "url": URL_LENGTH,
}
_encoder: Final = msgspec.json.Encoder()


@dataclass(frozen=True, slots=True, kw_only=True)
class Understood:
    """A record with its event. `data` is the event's JSON text; dead letters leave theirs in the log."""

    topic: Topic
    record: Record
    type: str
    event_id: str | None
    request_id: str | None
    event: Event | RequestSubmitted
    data: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Anomaly:
    """A record of our own topics that this release cannot read."""

    topic: Topic
    record: Record
    type: str
    request_id: str | None
    reason: str


@dataclass(frozen=True, slots=True)
class Skipped:
    """A record of a request topic that is no request."""

    record: Record


Interpretation = Understood | Anomaly | Skipped


def interpret(topic: Topic, record: Record, keys: SubmitKeys = NO_KEYS) -> Interpretation:
    """What `record` of `topic` means; never raises for what a record holds, but for lack of memory.

    Args:
        topic: what the record's topic is called here.
        record: as fetched.
        keys: by which ingest's records are known.
    """
    mode = REQUEST_MODES.get(topic)
    if mode is None:
        return _guarded(topic, record, lambda: _own_event(topic, record))
    return interpret_submission(topic, record, lambda: decode_submission(record, mode, keys))


def interpret_submission(topic: Topic, record: Record, decoded: Callable[[], Submission]) -> Interpretation:
    """What `record` of a request topic means.

    Args:
        topic: what the record's topic is called here.
        record: as fetched.
        decoded: returns what the record decodes to, or raises what decoding it has raised.
    """
    return _guarded(topic, record, lambda: _submission(topic, record, decoded().request))


def _guarded(topic: Topic, record: Record, understand: Callable[[], Understood]) -> Interpretation:
    try:
        return understand()
    except MemoryError:
        raise
    except SubmissionError:
        return Skipped(record)
    except (MalformedEventError, UnknownEventError, UnicodeDecodeError) as error:
        return _anomaly(topic, record, str(error))
    except Exception as error:  # noqa: BLE001 - unforeseen; raised again for ever, it would stop all tables
        return _anomaly(topic, record, f"cannot be decoded: {error!r}")


def _submission(topic: Topic, record: Record, request: RequestSubmitted) -> Understood:
    _check(request)
    envelope = read_envelope(record.headers)
    return Understood(
        topic=topic,
        record=record,
        type=SUBMITTED_TYPE,
        event_id=envelope.id if envelope else None,
        request_id=request.request_id,
        event=request,
        data=_encoder.encode(wire_of(RequestSubmitted).to_wire(request)).decode(),
    )


def _own_event(topic: Topic, record: Record) -> Understood:
    envelope, event = decode(record.headers, record.value)
    _check(event)
    if isinstance(event, DeliveryDeadLettered):
        _check(event.delivery)
    return Understood(
        topic=topic,
        record=record,
        type=envelope.type,
        event_id=envelope.id,
        request_id=_request_id(event),
        event=event,
        data=None if topic in _DEAD_LETTERS else (record.value or b"").decode(),
    )


def _request_id(event: Event) -> str | None:
    if isinstance(event, DeliveryDeadLettered):
        return event.delivery.request_id
    if isinstance(event, DestinationDisabled | DestinationEnabled):
        raise MalformedEventError(f"{type(event).__name__} does not belong into this topic")
    return event.request_id


def _check(event: object) -> None:
    """Refuse what no writer of ours produces and a column would refuse in the middle of a batch.

    Raises:
        MalformedEventError: an id is no UUID, a name is too long, or an integer is beyond 64 bit.
    """
    _check_identity(event)
    for spec in fields(event):  # type: ignore[arg-type]  # every event is a dataclass
        value = getattr(event, spec.name)
        if isinstance(value, int) and value not in _INT64:
            raise MalformedEventError(f"{spec.name} is beyond 64 bit")
        longest = _LONGEST.get(spec.name)
        if longest is not None and isinstance(value, str) and len(value) > longest:
            raise MalformedEventError(f"{spec.name} is longer than {longest} characters")


def _check_identity(event: object) -> None:
    if not isinstance(event, RequestEvent | RequestDeadLettered):
        return
    if event.request_id is not None and canonical_uuid(event.request_id) != event.request_id:
        raise MalformedEventError(f"request id {event.request_id[:64]!r} is no canonical UUID")


def _anomaly(topic: Topic, record: Record, reason: str) -> Anomaly:
    envelope = read_envelope(record.headers)
    return Anomaly(
        topic=topic,
        record=record,
        type=envelope.type if envelope else "",
        request_id=canonical_uuid((record.key or b"").decode("ascii", "replace")),
        reason=reason,
    )
