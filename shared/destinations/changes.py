"""Changing what is disabled: an event, appended and acknowledged."""

from typing import Final
from uuid import uuid4

from shared.domain.destinations import (
    DestinationDisabled,
    DestinationEnabled,
    DestinationEvent,
    DestinationId,
)
from shared.events.codec import Origin, encode
from shared.kafka.producer import SupervisedProducer
from shared.kafka.records import OutgoingRecord
from shared.kafka.topics import Topic

__all__ = ["append_change", "disable", "enable"]

PARTITION: Final = 0


def disable(
    destination: DestinationId, *, submitter: str, url: str, reason: str, by: str, now_ms: int
) -> DestinationDisabled:
    """The event that disables a destination; `url` is fit to be shown."""
    return DestinationDisabled(
        destination_id=destination, submitter=submitter, url=url, reason=reason, disabled_by=by, at_ms=now_ms
    )


def enable(state: DestinationDisabled, *, reason: str, by: str, now_ms: int) -> DestinationEnabled:
    """The event that enables a disabled destination again."""
    return DestinationEnabled(
        destination_id=state.destination_id,
        submitter=state.submitter,
        url=state.url,
        reason=reason,
        enabled_by=by,
        at_ms=now_ms,
    )


async def append_change(producer: SupervisedProducer, event: DestinationEvent, *, source: str) -> None:
    """Append `event`; when this returns, every instance will come to know of it.

    Raises:
        LogError: it was not acknowledged.
    """
    encoded = encode(event, Origin(event_id=str(uuid4()), source=source, now_ms=event.at_ms))
    await producer.send(
        OutgoingRecord(
            topic=Topic.DESTINATIONS,
            key=encoded.key,
            value=encoded.value,
            headers=encoded.headers,
            partition=PARTITION,
        )
    )
