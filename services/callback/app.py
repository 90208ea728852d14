"""The callback service put together: health first, so that one which waits for the log can be asked."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextlib import AsyncExitStack
from typing import Any, Final

import structlog

from services.callback.delay_queue import DelayQueue
from services.callback.dispatcher import HttpDispatcher
from services.callback.handlers import CallbackHandler
from services.callback.known import KnownCallbacks
from services.callback.ports import Dispatcher, Lease
from services.callback.recorder import Recorder
from services.callback.settings import CallbackSettings
from shared.http.health import HealthServer
from shared.kafka.backoff import backoff_s
from shared.kafka.consumer import PartitionConsumer
from shared.kafka.producer import LogUnavailable, SupervisedProducer
from shared.kafka.topics import RETRY_TIERS, TIER_DELAY_MS, Topic
from shared.open_files import raise_open_files

__all__ = ["CallbackService", "create_app"]

log = structlog.get_logger()

SHORTEST_TIER_MS: Final = min(TIER_DELAY_MS.values())
"""It takes what is due sooner, too; the others only what is not due before their delay."""

MakeDispatcher = Callable[[CallbackSettings, SupervisedProducer, Lease], Dispatcher]


class CallbackService:
    """One member of the group that makes deliveries, with all that it needs."""

    def __init__(self, settings: CallbackSettings, make_dispatcher: MakeDispatcher) -> None:
        self._producer = SupervisedProducer(settings)
        self._dispatcher = make_dispatcher(settings, self._producer, self)
        self.heap = DelayQueue()
        """What waits for its time."""

        handler = CallbackHandler(
            settings,
            self._dispatcher,
            Recorder(self._producer),
            KnownCallbacks(settings, settings.read_back_facts),
            self.heap,
        )
        self._consumer = PartitionConsumer(
            settings,
            group="callback",
            topics=(Topic.RESULTS, *RETRY_TIERS),
            handler=handler,
            idle_topics=[tier for tier in RETRY_TIERS if TIER_DELAY_MS[tier] > SHORTEST_TIER_MS],
            window=settings.callback_window,
            window_bytes=settings.callback_window_bytes,
        )

    def readiness(self) -> Mapping[str, bool]:
        """Ready is who makes deliveries of all its partitions."""
        return {
            "partitions": self._consumer.ready and not self._consumer.alarmed,
            "destinations": self._dispatcher.ready,
        }

    async def run(self, stop: asyncio.Event) -> None:
        """Make deliveries until the event is set; then end attempts in flight, and leave what waits.

        Raises:
            ExceptionGroup: of errors that no retry mends.
        """
        async with AsyncExitStack() as stack:
            stack.push_async_callback(self._producer.stop)
            if not await _unless(stop, self._connect()):
                return
            stack.push_async_callback(self._dispatcher.stop)
            if not await _unless(stop, self._dispatcher.start()):
                return
            async with asyncio.TaskGroup() as tasks:
                following = tasks.create_task(self._dispatcher.run(), name="destinations")
                consuming = tasks.create_task(self._consumer.run(), name="consumer")
                await stop.wait()
                await self._drain()
                await consuming
                following.cancel()

    def is_valid(self) -> bool:
        """Whether the group has confirmed lately that the deliveries are this member's to make."""
        return self._consumer.ownership_is_proven()

    async def renew(self) -> None:
        """Return once it has."""
        await self._consumer.prove_ownership()

    async def _connect(self) -> None:
        """Connect to the log, however long that takes."""
        for wait_s in backoff_s(cap_s=2.0):
            try:
                return await self._producer.start()
            except LogUnavailable as error:
                log.warning("callback.waits_for_the_log", error=str(error))
            await asyncio.sleep(wait_s)
        raise AssertionError("back-off is endless")

    async def _drain(self) -> None:
        """Have the consumer stop first: what is then told not to wait any longer is left, not tried again."""
        stopping = asyncio.create_task(self._consumer.stop())
        await asyncio.sleep(0)
        self.heap.close()
        self._dispatcher.release()
        await stopping


def _http_dispatcher(settings: CallbackSettings, producer: SupervisedProducer, lease: Lease) -> Dispatcher:
    return HttpDispatcher(settings, producer, lease=lease)


def create_app(
    settings: CallbackSettings, make_dispatcher: MakeDispatcher = _http_dispatcher
) -> Callable[[asyncio.Event], Awaitable[None]]:
    """What `run_service` runs: makes deliveries until the event is set, then drains."""

    async def main(stop: asyncio.Event) -> None:
        raise_open_files()
        service = CallbackService(settings, make_dispatcher)
        async with HealthServer(settings, service.readiness):
            await service.run(stop)

    return main


async def _unless(stop: asyncio.Event, work: Coroutine[Any, Any, None]) -> bool:
    """Await `work`, unless `stop` is set before it ends; whether it has ended."""
    working, stopping = asyncio.create_task(work), asyncio.create_task(stop.wait())
    try:
        await asyncio.wait([working, stopping], return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            await working
        return working.done()
    finally:
        for task in (working, stopping):
            task.cancel()
        await asyncio.wait([working, stopping])
