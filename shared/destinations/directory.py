"""The disabled destinations as a map that follows the topic `destinations` from its beginning.

The last record of a destination counts. A record that cannot be read is left out, loudly: one bad record must
neither stop callbacks nor hide the others.
"""

import asyncio
from collections.abc import Iterable
from typing import Final

import structlog
from aiokafka.errors import KafkaError

from shared.domain.destinations import (
    DestinationDisabled,
    DestinationEnabled,
    DestinationEvent,
    DestinationId,
    evolve,
)
from shared.events.codec import MalformedEventError, UnknownEventError, decode
from shared.kafka.backoff import backoff_s
from shared.kafka.reader import Follower, read_tail
from shared.kafka.records import Partition, Record
from shared.kafka.topics import Topic, topic_name
from shared.settings import KafkaSettings

__all__ = ["DestinationDirectory", "read_disabled"]

log = structlog.get_logger()

WHOLE_TOPIC: Final = 2**62
PARTITION: Final = 0
"""The topic has one: its records are few and their order matters."""


class DestinationDirectory:
    """What is disabled now."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self._topic = topic_name(settings, Topic.DESTINATIONS)
        self._disabled: dict[DestinationId, DestinationDisabled] = {}
        self._next_offset = 0
        self._loaded = False
        self._follower: Follower | None = None

    @property
    def ready(self) -> bool:
        """Whether what was known at the start is read, and what is added is being heard."""
        return self._loaded and (self._follower is None or self._follower.live)

    def disabled(self, destination: DestinationId) -> DestinationDisabled | None:
        """The state of a disabled destination, None when it is enabled."""
        return self._disabled.get(destination)

    def all(self) -> list[DestinationDisabled]:
        """Every disabled destination, the latest first."""
        return _latest_first(self._disabled.values())

    def apply(self, event: DestinationEvent) -> None:
        """Take `event`, which is in the log, into account without waiting to read it there."""
        self._set(event.destination_id, evolve(event))

    async def load(self) -> None:
        """Read what is known by now. A log that is away is waited for."""
        for wait_s in backoff_s(cap_s=2.0):
            try:
                await self.read_once()
            except (KafkaError, TimeoutError, OSError) as error:
                log.warning("destinations.wait_for_the_log", error=repr(error))
                await asyncio.sleep(wait_s)
            else:
                self._loaded = True
                return

    async def run(self) -> None:
        """Follow the topic until cancelled. A log that is away is waited for."""
        for wait_s in backoff_s(cap_s=2.0):
            try:
                async with Follower(
                    self._settings, self._topic, partitions=(PARTITION,), tail=None
                ) as self._follower:
                    async for records in self._follower.records():
                        self._fold_all(records)
            except (KafkaError, OSError) as error:
                log.warning("destinations.wait_for_the_log", error=repr(error))
            await asyncio.sleep(wait_s)

    async def read_once(self) -> None:
        """Read the topic up to its end.

        Raises:
            KafkaError, TimeoutError: the broker did not answer.
        """
        source = Partition(self._topic, PARTITION)
        self._fold_all([record async for record in read_tail(self._settings, source, WHOLE_TOPIC)])

    def _fold_all(self, records: Iterable[Record]) -> None:
        """Take records into account, each once, so that reading anew never brings an old state back."""
        for record in records:
            if record.offset >= self._next_offset:
                self._next_offset = record.offset + 1
                self.fold(record)

    def fold(self, record: Record) -> None:
        """Take a record of the topic into account."""
        change = _read(record)
        if change is not None:
            self._set(*change)

    def _set(self, destination: DestinationId, state: DestinationDisabled | None) -> None:
        if state is None:
            self._disabled.pop(destination, None)
        else:
            self._disabled[destination] = state


async def read_disabled(settings: KafkaSettings) -> list[DestinationDisabled]:
    """Every disabled destination as of now, the latest first.

    Raises:
        KafkaError, TimeoutError: the broker did not answer.
    """
    directory = DestinationDirectory(settings)
    await directory.read_once()
    return directory.all()


def _read(record: Record) -> tuple[DestinationId, DestinationDisabled | None] | None:
    """The destination that `record` is about and its state after it. A record without value enables."""
    if record.value is None:
        return ((record.key or b"").decode("utf-8", "replace"), None)
    try:
        _, event = decode(record.headers, record.value)
    except (MalformedEventError, UnknownEventError) as error:
        reason = str(error)
    else:
        if isinstance(event, DestinationDisabled | DestinationEnabled):
            return event.destination_id, evolve(event)
        reason = "not about a destination"
    log.error("destinations.unreadable_record", position=record.position, reason=reason)
    return None


def _latest_first(states: Iterable[DestinationDisabled]) -> list[DestinationDisabled]:
    return sorted(states, key=lambda state: (-state.at_ms, state.destination_id))
