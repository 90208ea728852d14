"""What the records of `results` and of the retry tiers ask for. Pure."""

from typing import Final

from services.callback.body import first_delivery
from shared.domain.callbacks import Delivery
from shared.domain.requests import RequestFailed, RequestStarted, RequestSucceeded
from shared.domain.types import Mode
from shared.events.codec import EVENT_TYPES, MalformedEventError, UnknownEventError, decode
from shared.events.envelope import first_header
from shared.kafka.records import Record

__all__ = ["UnreadableRecordError", "read_delivery"]

SYNC: Final = Mode.SYNC.value
"""Who waits for an outcome is not called back: it is not decoded."""

STARTED: Final = next(name for name, event in EVENT_TYPES.items() if event is RequestStarted)


class UnreadableRecordError(ValueError):
    """A record of our own topics that this release cannot read."""


def read_delivery(record: Record) -> Delivery | None:
    """The delivery that `record` asks for, if any.

    Raises:
        UnreadableRecordError: it is none of the events that belong where it lies.
    """
    if first_header(record.headers, "ce_type") == STARTED or first_header(record.headers, "ce_mode") == SYNC:
        return None
    try:
        _, event = decode(record.headers, record.value)
    except (MalformedEventError, UnknownEventError) as error:
        raise UnreadableRecordError(str(error)) from error
    match event:
        case Delivery():
            return event
        case RequestSucceeded() | RequestFailed():
            return first_delivery(event, record.position)
        case _:
            raise UnreadableRecordError(f"a {type(event).__name__} does not belong here")
