"""What is known to have become of callbacks: read back from the facts, kept up with those written here.

Facts of a partition number belong to its owner. On taking it over, the last of them are read, so that a
repeated outcome or retry is recognised however the former owner ended. Memory is bounded: what was told of
longest ago is forgotten first.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Iterable
from typing import Final

import structlog

from services.callback import metrics
from shared.domain.callbacks import (
    EMPTY_CALLBACK,
    CallbackAttempted,
    CallbackDeadLettered,
    CallbackDelivered,
    CallbackDiscarded,
    CallbackEvent,
    CallbackReplayed,
    CallbackState,
    CallbackStatus,
    Delivery,
    evolve,
)
from shared.domain.delivering import expect
from shared.domain.types import RequestId
from shared.events.codec import EVENT_TYPES, MalformedEventError, UnknownEventError, decode
from shared.kafka.reader import read_tail
from shared.kafka.records import Partition, Record
from shared.kafka.topics import Topic, topic_name
from shared.settings import KafkaSettings

__all__ = ["KnownCallbacks", "KnownPartition"]

log = structlog.get_logger()

DELIVERED: Final = CallbackState(status=CallbackStatus.DELIVERED)
"""Of a delivered callback nothing else matters, so all share one state."""

DELIVERED_TYPE: Final = next(
    ("ce_type", name.encode()) for name, event in EVENT_TYPES.items() if event is CallbackDelivered
)
READ_AT_A_TIME: Final = 2
"""Partition numbers read back at once: the first are ready before the last have begun."""

_FACTS: Final = (
    CallbackAttempted,
    CallbackDelivered,
    CallbackDeadLettered,
    CallbackReplayed,
    CallbackDiscarded,
)


class KnownPartition:
    """The states of at most `limit` callbacks with facts and as many without; the least recent go first.

    Those without were only put off. They lie apart: a backlog of them must not push out what was delivered.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._states: OrderedDict[str, CallbackState] = OrderedDict()
        self._expected: OrderedDict[str, CallbackState] = OrderedDict()

    def __len__(self) -> int:
        """How many are remembered."""
        return len(self._states) + len(self._expected)

    def state(self, request_id: RequestId) -> CallbackState:
        """What is known of a request's callback."""
        return self._states.get(request_id) or self._expected.get(request_id, EMPTY_CALLBACK)

    def __contains__(self, request_id: RequestId) -> bool:
        """Whether anything is known of a request's callback."""
        return request_id in self._states or request_id in self._expected

    def fold(self, event: CallbackEvent) -> None:
        """Take a fact in, in the order of the log."""
        state = evolve(self.state(event.request_id), event)
        self._expected.pop(event.request_id, None)
        self._remember(event.request_id, state)

    def expect(self, delivery: Delivery) -> None:
        """Take in what `delivery` tells of itself: that there is one, and perhaps of a replay."""
        state = expect(self.state(delivery.request_id), delivery)
        if delivery.request_id in self._states:
            self._remember(delivery.request_id, state)
        else:
            self._keep(self._expected, delivery.request_id, state)

    def read(self, record: Record) -> None:
        """Take in a record of the facts' topic; one that cannot be read, or is no such fact, says nothing."""
        if DELIVERED_TYPE in record.headers and record.key:
            self._remember(record.key.decode("utf-8", "replace"), DELIVERED)
            return
        try:
            _, event = decode(record.headers, record.value)
        except (MalformedEventError, UnknownEventError) as error:
            log.debug("callback.fact_skipped", position=record.position, reason=str(error))
            return
        if isinstance(event, _FACTS):
            self.fold(event)

    def _remember(self, request_id: str, state: CallbackState) -> None:
        delivered = state.status is CallbackStatus.DELIVERED
        self._keep(self._states, request_id, DELIVERED if delivered else state)

    def _keep(self, states: OrderedDict[str, CallbackState], request_id: str, state: CallbackState) -> None:
        states[request_id] = state
        states.move_to_end(request_id)
        if len(states) > self._limit:
            states.popitem(last=False)


class KnownCallbacks:
    """What is known in every partition number that this process owns.

    Args:
        settings: where the log is.
        facts: how many of the last facts of a partition number are read back, and callbacks remembered.
    """

    def __init__(self, settings: KafkaSettings, facts: int) -> None:
        self._settings = settings
        self._facts = facts
        self._owned: dict[int, set[Partition]] = {}
        self._known: dict[int, KnownPartition] = {}
        self._reading = asyncio.Semaphore(READ_AT_A_TIME)

    async def open(self, partitions: Iterable[Partition]) -> None:
        """Know what is settled in `partitions`, all of one number, before their records are handled.

        Raises:
            KafkaError, TimeoutError: the broker did not answer.
        """
        for partition in partitions:
            if partition.number not in self._known:
                async with self._reading:
                    self._known[partition.number] = await self._read_back(partition.number)
            self._owned.setdefault(partition.number, set()).add(partition)
        self._show()

    def close(self, partitions: Iterable[Partition]) -> None:
        """Forget a partition number once none of its partitions is owned."""
        for partition in partitions:
            owned = self._owned.get(partition.number, set())
            owned.discard(partition)
            if not owned:
                self._owned.pop(partition.number, None)
                self._known.pop(partition.number, None)
        self._show()

    def of(self, number: int) -> KnownPartition:
        """What is known in an owned partition number."""
        return self._known[number]

    async def _read_back(self, number: int) -> KnownPartition:
        known = KnownPartition(self._facts)
        began = time.monotonic()
        source = Partition(topic_name(self._settings, Topic.CALLBACKS), number)
        count = 0
        async for record in read_tail(self._settings, source, self._facts):
            known.read(record)
            count += 1
        seconds = time.monotonic() - began
        metrics.READ_BACK_SECONDS.observe(seconds)
        log.info("callback.read_back", partition=str(source), facts=count, seconds=round(seconds, 3))
        return known

    def _show(self) -> None:
        metrics.KNOWN.set(sum(map(len, self._known.values())))
