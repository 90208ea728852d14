"""The callback service's work on one record: wait until it is due, attempt it once, record what came of it.

The next record (a retry or a dead letter) is acknowledged before the fact, the fact before the offset is
committed. A crash in between repeats an attempt or leaves a second copy of a retry, which is recognised as
stale; it never loses a delivery.
"""

import random
from collections.abc import Mapping
from typing import Final

import structlog

from services.callback import metrics
from services.callback.attempt_log import log_attempt
from services.callback.inbox import UnreadableRecordError, read_delivery
from services.callback.known import KnownCallbacks
from services.callback.ports import DeferralReason, Deferred, Disabled, Dispatched, Dispatcher, Where
from services.callback.recorder import Recorder
from services.callback.settings import CallbackSettings
from services.callback.turns import Turns
from shared.domain.callbacks import CallbackEvent, Delivery
from shared.domain.delay import Due, Hop, WaitUntil, next_step
from shared.domain.delivering import (
    Abandon,
    Defer,
    Delivered,
    Refusal,
    TryAgain,
    decide_attempt,
    decide_deferral,
    decide_delivery,
    decide_disabled,
)
from shared.events.envelope import first_header
from shared.kafka.delay_queue import DelayQueue, wall_clock_ms
from shared.kafka.records import Partition, Record
from shared.kafka.topics import TIER_DELAY_MS, topic_name

__all__ = ["CallbackHandler"]

log = structlog.get_logger()

Decision = Delivered | TryAgain | Defer | Abandon

IN_WORK: Final = "in_work"


class CallbackHandler:
    """Handles the records of `results` and of the retry tiers."""

    def __init__(
        self,
        settings: CallbackSettings,
        dispatcher: Dispatcher,
        recorder: Recorder,
        known: KnownCallbacks,
        heap: DelayQueue,
    ) -> None:
        self._dispatcher = dispatcher
        self._recorder = recorder
        self._known = known
        self._heap = heap
        self._turns = Turns()
        self._retries = settings.retry_policy()
        self._deferrals = settings.deferral_policy()
        self._tiers: Mapping[str, int] = {
            topic_name(settings, topic): delay_ms for topic, delay_ms in TIER_DELAY_MS.items()
        }

    async def on_assigned(self, partitions: frozenset[Partition]) -> None:
        """Learn what is settled."""
        await self._known.open(partitions)

    async def on_revoked(self, partitions: frozenset[Partition]) -> None:
        """Forget it."""
        self._known.close(partitions)

    async def handle(self, record: Record) -> None:
        """Bring the delivery that `record` asks for one step further.

        Raises:
            ReleaseRecord: it waits for its time, and the service stops.
        """
        delivery = self._read(record)
        if delivery is None:
            return
        if record.topic in self._tiers:
            not_before_ms = delivery.not_before_ms
            del delivery  # what waits holds its record only, not the body once more
            if not await self._wait(record, not_before_ms):
                return
            delivery = self._read(record)
        if delivery is not None:
            await self._attempt(record, delivery)

    def _read(self, record: Record) -> Delivery | None:
        """The delivery that `record` asks for, unless that is done or cannot be read."""
        try:
            delivery = read_delivery(record)
        except UnreadableRecordError as error:
            _alarm(record, error)
            return None
        return None if delivery is None or self._refused(record, delivery) else delivery

    def _refused(self, record: Record, delivery: Delivery) -> bool:
        """Whether `delivery` repeats what is known: any known callback has had its outcome already."""
        known = self._known.of(record.partition)
        if record.topic in self._tiers:
            refusal = decide_delivery(known.state(delivery.request_id), delivery)
        else:
            refusal = Refusal.STALE if delivery.request_id in known else None
        if refusal is not None:
            metrics.REFUSED.labels(refusal).inc()
            log.debug("callback.repeat", position=record.position, id=delivery.request_id, reason=refusal)
        return refusal is not None

    async def _wait(self, record: Record, not_before_ms: int) -> bool:
        """Wait until the delivery in `record` is due; False when it has moved on to another tier instead."""
        appended_ms = record.timestamp_ms
        with metrics.WAITING.labels(record.topic).track_inprogress():
            while True:
                now_ms = wall_clock_ms()
                step = next_step(
                    not_before_ms=not_before_ms,
                    appended_ms=appended_ms,
                    delay_ms=self._tiers[record.topic],
                    now_ms=now_ms,
                )
                match step:
                    case WaitUntil(at_ms):
                        await self._heap.wait_until(at_ms)
                    case Hop():
                        await self._hop(record)
                        return False
                    case Due():
                        late_s = (now_ms - max(not_before_ms, appended_ms)) / 1000
                        metrics.LATENESS_SECONDS.labels(record.topic).observe(late_s)
                        return True

    async def _hop(self, record: Record) -> None:
        delivery = self._read(record)
        if delivery is not None:
            await self._recorder.postpone(delivery, _trace(record))
            metrics.HOPS.labels(record.topic).inc()

    async def _attempt(self, record: Record, delivery: Delivery) -> None:
        async with self._turns.turn(delivery) as is_mine:
            if not is_mine:
                metrics.REFUSED.labels(IN_WORK).inc()
            elif not self._refused(record, delivery):
                if delivery.replay_count:
                    self._known.of(record.partition).expect(delivery)
                where = Where(record.partition, record.size)
                async with self._dispatcher.dispatch(delivery, where) as dispatched:
                    decision = self._decide(delivery, dispatched)
                    await self._carry_out(record, decision)
                log_attempt(record, delivery, dispatched, decision)

    def _decide(self, delivery: Delivery, dispatched: Dispatched) -> Decision:
        jitter = random.random()  # noqa: S311 - spreads load, hides no secret
        match dispatched:
            case Deferred():
                return decide_deferral(
                    delivery,
                    self._deferrals,
                    dispatched.reason,
                    now_ms=wall_clock_ms(),
                    not_before_ms=dispatched.not_before_ms,
                    has_turn=dispatched.reason in (DeferralReason.QUEUE_FULL, DeferralReason.RATE_LIMITED),
                    jitter=jitter,
                )
            case Disabled(message=message):
                return decide_disabled(delivery, message, now_ms=wall_clock_ms())
            case attempt:
                return decide_attempt(delivery, attempt, self._retries, jitter=jitter)

    async def _carry_out(self, record: Record, decision: Decision) -> None:
        """Append what `decision` says, in its order."""
        trace = _trace(record)
        match decision:
            case Delivered():
                await self._state(record, decision.fact)
            case TryAgain():
                await self._recorder.postpone(decision.postponed, trace)
                await self._state(record, decision.fact)
            case Defer():
                await self._recorder.postpone(decision.postponed, trace)
                self._known.of(record.partition).expect(decision.postponed)
            case Abandon():
                await self._recorder.bury(decision.letter, trace)
                for fact in decision.facts:
                    await self._state(record, fact)

    async def _state(self, record: Record, fact: CallbackEvent) -> None:
        await self._recorder.state(fact, _trace(record))
        self._known.of(record.partition).fold(fact)


def _alarm(record: Record, error: UnreadableRecordError) -> None:
    """The partition goes on: a person finds the record by its position."""
    metrics.UNREADABLE.labels(record.topic).inc()
    log.error("callback.unreadable_record", position=record.position, reason=str(error))


def _trace(record: Record) -> str | None:
    return first_header(record.headers, "traceparent")
