"""A tier's record is not decoded before its time, hops byte for byte, and goes early when it may."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

from pydantic import SecretStr

from services.callback.delay_queue import DelayQueue, wall_clock_ms
from services.callback.handlers import CallbackHandler
from services.callback.known import KnownCallbacks, KnownPartition
from services.callback.ports import DeferralReason, Deferred, Dispatch, Dispatched, WaitsFor, Where
from services.callback.recorder import Recorder
from services.callback.settings import CallbackSettings
from shared.domain.callbacks import Delivery, SuccessfulAttempt
from shared.events.codec import Origin, encode
from shared.kafka.producer import SupervisedProducer
from shared.kafka.records import OutgoingRecord, Position, Record
from shared.kafka.topics import Topic
from tests.support.waiting import until
from tests.unit.callback.support import delivery

SETTINGS = CallbackSettings(webhook_secrets=SecretStr("whsec_" + "c2VjcmV0" * 6))
WAITS_FOR = WaitsFor("http://receiver", "d-1")
TAKEN = SuccessfulAttempt(status=200, at_ms=1, duration_ms=1.0)


class Log(SupervisedProducer):
    """Keeps what is appended."""

    def __init__(self) -> None:
        super().__init__(SETTINGS)
        self.records: list[OutgoingRecord] = []

    async def append(self, record: OutgoingRecord) -> Position:
        self.records.append(record)
        return Position("t", 0, len(self.records), 0)


class Destination:
    """Answers as it is told."""

    ready = True

    def __init__(self, outcome: Dispatched) -> None:
        self.outcome = outcome
        self.made: list[Delivery] = []
        self.wakes: list[Callable[[], None]] = []
        self.recorded = 0

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    async def run(self) -> None: ...

    def release(self) -> None: ...

    async def dispatch(self, delivery: Delivery, where: Where) -> Dispatch:
        self.made.append(delivery)
        return Dispatch(self.outcome, self._count)

    def _count(self) -> None:
        self.recorded += 1

    @contextmanager
    def parked(self, waits_for: WaitsFor, wake: Callable[[], None]) -> Iterator[None]:
        assert waits_for == WAITS_FOR
        self.wakes.append(wake)
        yield


class Known(KnownCallbacks):
    """Nothing is known of any partition at first."""

    def __init__(self) -> None:
        super().__init__(SETTINGS, 10)
        self._one = KnownPartition(10)

    def of(self, number: int) -> KnownPartition:
        return self._one


def handler(log: Log, destination: Destination) -> CallbackHandler:
    return CallbackHandler(SETTINGS, destination, Recorder(log), Known(), DelayQueue())


def record_of(
    subject: Delivery, topic: Topic, *, appended_ms: int, headers: tuple[tuple[str, bytes], ...] = ()
) -> Record:
    encoded = encode(subject, Origin(event_id="e", source="/test", now_ms=0))
    return Record(
        f"consuma.{topic}", 0, 1, appended_ms, encoded.key, encoded.value, encoded.headers + headers
    )


async def test_a_hop_decodes_nothing_and_keeps_every_byte() -> None:
    log, now_ms = Log(), wall_clock_ms()
    later = replace(delivery(attempt=2), not_before_ms=now_ms + 60_000)
    record = record_of(later, Topic.CALLBACKS_RETRY_5S, appended_ms=now_ms - 5_000)
    odd = replace(record, value=b"\xff not looked at")
    destination = Destination(TAKEN)
    await handler(log, destination).handle(odd)
    [hopped] = log.records
    assert hopped == OutgoingRecord(
        topic=Topic.CALLBACKS_RETRY_30S, key=record.key, value=odd.value, headers=record.headers
    )
    assert not destination.made


async def test_a_deferral_is_one_append_that_names_its_destination() -> None:
    log = Log()
    busy = Deferred(reason=DeferralReason.BREAKER_OPEN, wait_ms=47_000, refused_by="d-1", waits_for=WAITS_FOR)
    destination = Destination(busy)
    due = record_of(
        replace(delivery(attempt=2), deferrals=3), Topic.CALLBACKS_RETRY_1S, appended_ms=wall_clock_ms()
    )
    await handler(log, destination).handle(due)
    [deferred] = log.records
    headers = dict(deferred.headers)
    assert deferred.topic is Topic.CALLBACKS_RETRY_30S, "47 s are no hops by way of 30, 5, 5, 5 and 1"
    assert (headers["attempt"], headers["deferrals"]) == (b"2", b"4")
    assert headers["waits-for-origin"] == b"http://receiver"
    assert headers["waits-for-destination"] == b"d-1"
    assert 30_000 <= int(headers["not-before"]) - due.timestamp_ms < 32_000
    assert destination.recorded == 1


async def test_a_deferred_delivery_goes_before_its_time_when_it_is_woken() -> None:
    log, destination, now_ms = Log(), Destination(TAKEN), wall_clock_ms()
    waiting = replace(delivery(), deferrals=1, not_before_ms=now_ms + 600_000)
    named = (("waits-for-origin", b"http://receiver"), ("waits-for-destination", b"d-1"))
    record = record_of(waiting, Topic.CALLBACKS_RETRY_10M, appended_ms=now_ms - 5_000, headers=named)
    task = asyncio.create_task(handler(log, destination).handle(record))
    await until(lambda: len(destination.wakes) == 1)
    assert not destination.made
    destination.wakes[0]()
    await asyncio.wait_for(task, 5)
    assert destination.made == [waiting]
    assert [each.topic for each in log.records] == [Topic.CALLBACKS]


async def test_a_deferred_delivery_is_not_back_within_a_second() -> None:
    destination, now_ms = Destination(TAKEN), wall_clock_ms()
    waiting = replace(delivery(), deferrals=1, not_before_ms=now_ms + 600_000)
    named = (("waits-for-origin", b"http://receiver"), ("waits-for-destination", b"d-1"))
    record = record_of(waiting, Topic.CALLBACKS_RETRY_10M, appended_ms=now_ms, headers=named)
    task = asyncio.create_task(handler(Log(), destination).handle(record))
    await until(lambda: len(destination.wakes) == 1)
    assert wall_clock_ms() - now_ms >= 1_000
    task.cancel()
    await asyncio.wait([task])
