"""The callback service's work on one record: wait until it is due, attempt it once, record what came of it.

The next record (a retry or a dead letter) is acknowledged before the fact, the fact before the offset is
committed. A crash in between repeats an attempt or leaves a second copy of a retry, which is recognised as
stale; it never loses a delivery.
"""

import asyncio
import random
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Final

import structlog

from services.callback import metrics
from services.callback.attempt_log import log_attempt
from services.callback.delay_queue import DelayQueue, wall_clock_ms
from services.callback.in_flight import InFlight
from services.callback.inbox import UnreadableRecordError, read_delivery
from services.callback.known import KnownCallbacks
from services.callback.ports import (
    DeferralReason,
    Deferred,
    Disabled,
    Dispatched,
    Dispatcher,
    WaitsFor,
    Where,
)
from services.callback.recorder import Recorder
from services.callback.return_clocks import ReturnClocks
from services.callback.schedule import read_schedule
from services.callback.settings import CallbackSettings
from shared.domain.callbacks import CallbackEvent, Delivery
from shared.domain.delay import Due, Hop, WaitUntil, next_step, pick_tier
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
from shared.domain.retry_policy import deferral_ms
from shared.events.envelope import first_header
from shared.kafka.records import Partition, Record
from shared.kafka.topics import TIER_DELAY_MS, Topic, topic_name

__all__ = ["CallbackHandler"]

log = structlog.get_logger()

Decision = Delivered | TryAgain | Defer | Abandon

IN_WORK: Final = "in_work"
SHORTEST_ABSENCE_MS: Final = 1_000
"""A deferred delivery waits so long whatever its destination does, so that it is appended once a second at
most."""

_TIER_OF_DELAY: Final[Mapping[int, Topic]] = {delay_ms: topic for topic, delay_ms in TIER_DELAY_MS.items()}


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
        self._in_flight = InFlight()
        self._clocks = ReturnClocks()
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
        if record.topic in self._tiers and not await self._wait(record):
            return
        try:
            delivery = read_delivery(record)
        except UnreadableRecordError as error:
            await self._bury(record, error)
            return
        if delivery is not None:
            await self._attempt(record, delivery)

    async def _wait(self, record: Record) -> bool:
        """Wait until `record` is due; False when it has moved on to another tier instead."""
        schedule = read_schedule(record)
        if schedule is None:
            return True
        not_before_ms = schedule.not_before_ms
        with metrics.WAITING.labels(record.topic).track_inprogress():
            while True:
                now_ms = wall_clock_ms()
                step = next_step(
                    not_before_ms=not_before_ms,
                    appended_ms=record.timestamp_ms,
                    delay_ms=self._tiers[record.topic],
                    now_ms=now_ms,
                )
                match step:
                    case WaitUntil(at_ms):
                        if await self._rest(record, at_ms, schedule.waits_for):
                            return True
                    case Hop(remainder_ms):
                        await self._recorder.hop(
                            record, _TIER_OF_DELAY[pick_tier(_TIER_OF_DELAY, remainder_ms)]
                        )
                        metrics.HOPS.labels(record.topic).inc()
                        return False
                    case Due():
                        late_s = (now_ms - max(not_before_ms, record.timestamp_ms)) / 1000
                        metrics.LATENESS_SECONDS.labels(record.topic).observe(late_s)
                        return True

    async def _rest(self, record: Record, at_ms: int, waits_for: WaitsFor | None) -> bool:
        """Wait until `at_ms`; True as soon as the destination that `record` waits for takes it."""
        if waits_for is None:
            await self._heap.wait_until(at_ms)
            return False
        await self._heap.wait_until(min(record.timestamp_ms + SHORTEST_ABSENCE_MS, at_ms))
        loop = asyncio.get_running_loop()
        with suppress(TimeoutError):
            async with asyncio.timeout(None) as wait:
                with self._dispatcher.parked(waits_for, lambda: wait.reschedule(loop.time())):
                    await self._heap.wait_until(at_ms)
        return wait.expired()

    async def _attempt(self, record: Record, delivery: Delivery) -> None:
        """Attempt `delivery`, unless it repeats what is under way or done."""
        async with self._in_flight.attempting(delivery) as is_first:
            if not is_first:
                metrics.REFUSED.labels(IN_WORK).inc()
            elif not self._refused(record, delivery):
                if delivery.replay_count:
                    self._known.of(record.partition).expect(delivery)
                await self._dispatch(record, delivery)

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

    async def _dispatch(self, record: Record, delivery: Delivery) -> None:
        dispatch = await self._dispatcher.dispatch(delivery, Where(record.partition, record.size))
        try:
            decision = self._decide(delivery, dispatch.outcome)
            await self._carry_out(record, dispatch.outcome, decision)
        finally:
            dispatch.recorded()
        log_attempt(record, delivery, dispatch.outcome, decision)

    def _decide(self, delivery: Delivery, dispatched: Dispatched) -> Decision:
        jitter = random.random()  # noqa: S311 - spreads load, hides no secret
        match dispatched:
            case Deferred():
                return decide_deferral(
                    delivery,
                    self._deferrals,
                    dispatched.reason,
                    now_ms=wall_clock_ms(),
                    delay_ms=self._delay_ms(delivery, dispatched),
                    jitter=jitter,
                )
            case Disabled(message=message):
                return decide_disabled(delivery, message, now_ms=wall_clock_ms())
            case attempt:
                return decide_attempt(delivery, attempt, self._retries, jitter=jitter)

    def _delay_ms(self, delivery: Delivery, deferred: Deferred) -> int:
        """The delay of the tier in which `delivery` waits; longer and longer where nobody is there."""
        wait_ms = deferred.wait_ms
        if deferred.reason in (DeferralReason.BREAKER_OPEN, DeferralReason.NOT_BEGUN):
            wait_ms = deferral_ms(self._deferrals, delivery.deferrals, wait_ms)
        return self._clocks.delay_ms(deferred.refused_by, wait_ms, time.monotonic() * 1000)

    async def _carry_out(self, record: Record, dispatched: Dispatched, decision: Decision) -> None:
        """Append what `decision` says, in its order."""
        trace = _trace(record)
        match decision:
            case Delivered():
                await self._state(record, decision.fact)
            case TryAgain():
                tier = _TIER_OF_DELAY[pick_tier(_TIER_OF_DELAY, decision.wait_ms)]
                await self._recorder.postpone(decision.postponed, tier, trace)
                await self._state(record, decision.fact)
            case Defer():
                waits_for = dispatched.waits_for if isinstance(dispatched, Deferred) else None
                tier = _TIER_OF_DELAY[decision.delay_ms]
                await self._recorder.postpone(decision.postponed, tier, trace, waits_for=waits_for)
                self._known.of(record.partition).expect(decision.postponed)
            case Abandon():
                await self._recorder.bury(decision.letter, trace)
                for fact in decision.facts:
                    await self._state(record, fact)

    async def _bury(self, record: Record, error: UnreadableRecordError) -> None:
        """Keep what cannot be read as a dead letter: a newer release may have written it."""
        await self._recorder.bury_unread(record, str(error))
        metrics.UNREADABLE.labels(record.topic).inc()
        log.error("callback.unreadable_record", position=record.position, reason=str(error))

    async def _state(self, record: Record, fact: CallbackEvent) -> None:
        await self._recorder.state(fact, _trace(record))
        self._known.of(record.partition).fold(fact)


def _trace(record: Record) -> str | None:
    return first_header(record.headers, "traceparent")
