"""The compute service put together."""

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, suppress
from typing import Final, NoReturn

import structlog

from services.compute import metrics
from services.compute.execution import Announcer, ExecutionContext
from services.compute.handlers import Compute
from services.compute.journal import Journal
from services.compute.replies import Replies
from services.compute.settings import ComputeSettings
from services.compute.slot import SlotServerError
from services.compute.slot_pool import SlotPool, SlotPoolSettings
from services.compute.slot_tree import kill_all_below
from shared.http.health import HealthServer
from shared.kafka.backoff import backoff_s
from shared.kafka.consumer import PartitionConsumer, Quarantine
from shared.kafka.producer import LogUnavailable, SupervisedProducer
from shared.kafka.topics import Topic
from shared.operations.registry import load_registry

__all__ = ["ComputeService", "create_app"]

log = structlog.get_logger()

BULK_LINGER_MS: Final = 5
"""Outcomes of a backlog may share a request to the broker: a sixth more of them fits on the same cores."""

DYING_S: Final = 3.0
"""For the death of all that slots have started."""


def create_app(settings: ComputeSettings) -> Callable[[asyncio.Event], Awaitable[None]]:
    """What `run_service` runs: computes until the event is set, then ends what runs."""

    async def main(stop: asyncio.Event) -> None:
        await ComputeService(settings).run(stop)

    return main


def _die() -> NoReturn:
    """End this process as a crash would.

    What ran may have ended the slots on purpose. A stop in good order would say in the group's commits that
    nothing was in flight, and the next owner would run it again as if nothing had happened, for ever.
    What slots had forked off has come to this process with the death of their server, and dies first.
    """
    with suppress(Exception):  # a broken pipe must not turn this into a stop in good order
        sys.stdout.flush()
    kill_all_below(DYING_S)
    os._exit(1)


class ComputeService:
    """One member of the group `compute` with slots of its own."""

    def __init__(self, settings: ComputeSettings, die: Callable[[], NoReturn] = _die) -> None:
        self._settings = settings
        self._die = die
        self._pool = SlotPool(SlotPoolSettings(slots=settings.slot_count()))
        urgent, foreign = SupervisedProducer(settings), SupervisedProducer(settings, idempotent=False)
        bulk = SupervisedProducer(settings, linger_ms=BULK_LINGER_MS)
        self._producers = (urgent, bulk, foreign)
        self._replies = Replies(settings, own=urgent, foreign=foreign)
        quarantine = Quarantine(settings.crash_journal_dir)
        journal = Journal(urgent=urgent, bulk=bulk, crowded=lambda: self._pool.waiting > 0)
        self._announcer = Announcer(journal, instance=settings.instance, after_ms=settings.started_after_ms)
        context = ExecutionContext(
            pool=self._pool, journal=journal, announcer=self._announcer, quarantine=quarantine
        )
        self._compute = Compute(settings, load_registry(), context, self._replies)
        self._consumer = PartitionConsumer(
            settings,
            group="compute",
            topics=[Topic.REQUESTS_SYNC, Topic.REQUESTS],
            handler=self._compute,
            window=settings.window,
            quarantine=quarantine,
            on_poison=self._compute.on_poison,
        )

    def readiness(self) -> Mapping[str, bool]:
        """Ready is who computes what the group has given to it."""
        return {
            "consumer": self._consumer.ready,
            "partitions": not self._consumer.alarmed,
            "slots": self._pool.ready,
            "cancellations": self._compute.cancellations.caught_up,
        }

    async def run(self, stop: asyncio.Event) -> None:
        """Compute until `stop` is set; then let what runs end, and leave what waits to others.

        Raises:
            SlotServerError: no slot can be started at all; the message says what to repair.
        """
        metrics.IN_WORK.set_function(lambda: self._pool.running)
        metrics.WAITING.set_function(lambda: self._pool.waiting)
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(HealthServer(self._settings, self.readiness))
            stack.push_async_callback(self._compute.close)
            stack.push_async_callback(self._pool.stop)
            await self._pool.start()
            for producer in self._producers:
                stack.push_async_callback(producer.stop)
                if not await _connected(producer, stop):
                    return
            stack.push_async_callback(self._replies.drain)
            await self._work(stop)

    async def _work(self, stop: asyncio.Event) -> None:
        consuming = asyncio.create_task(self._consumer.run(), name="consumer")
        others = {
            asyncio.create_task(self._watch_slots(), name="slots"),
            asyncio.create_task(self._compute.cancellations.follow(), name="cancellations"),
            asyncio.create_task(self._announcer.run(), name="announcer"),
        }
        stopping = asyncio.create_task(stop.wait(), name="stop")
        try:
            await asyncio.wait({consuming, *others, stopping}, return_when=asyncio.FIRST_COMPLETED)
            self._compute.release_queued()
            await self._consumer.stop()
        finally:
            for task in (consuming, *others, stopping):
                task.cancel()
            ended = await asyncio.gather(consuming, *others, stopping, return_exceptions=True)
        for problem in ended:
            if isinstance(problem, Exception):
                raise problem
        if not stop.is_set():
            raise RuntimeError("a part of the service ended by itself")

    async def _watch_slots(self) -> None:
        try:
            await self._pool.watch()
        except SlotServerError as error:
            log.critical("compute.slots_lost", error=str(error), hint="the process ends to be started anew")
            self._die()


async def _connected(producer: SupervisedProducer, stop: asyncio.Event) -> bool:
    """Connect, however long the broker is away; False when told to stop before."""
    for wait_s in backoff_s(cap_s=2.0):
        try:
            await producer.start()
        except LogUnavailable as error:
            log.warning("compute.log_away", error=str(error))
        else:
            return True
        try:
            async with asyncio.timeout(wait_s):
                await stop.wait()
        except TimeoutError:
            continue
        return False
    raise AssertionError("back-off is endless")
