"""Which requests somebody wants stopped: heard by every compute process, as nobody knows who has them."""

import asyncio
from collections import OrderedDict
from collections.abc import Callable

import structlog
from aiokafka.errors import KafkaError

from services.compute.settings import ComputeSettings
from shared.domain.requests import RequestCancelled
from shared.domain.types import RequestId
from shared.events.codec import MalformedEventError, UnknownEventError, decode
from shared.kafka.backoff import backoff_s
from shared.kafka.reader import Follower
from shared.kafka.records import Record
from shared.kafka.topics import Topic, topic_name

__all__ = ["Cancellations"]

log = structlog.get_logger()


class Cancellations:
    """The latest cancellations, by request; `on_cancelled` is told of each as it is heard."""

    def __init__(self, settings: ComputeSettings, on_cancelled: Callable[[RequestId], None]) -> None:
        self._settings = settings
        self._topic = topic_name(settings, Topic.REQUESTS_CANCELLED)
        self._on_cancelled = on_cancelled
        self._known: OrderedDict[RequestId, None] = OrderedDict()
        self._caught_up = asyncio.Event()
        self._follower: Follower | None = None

    @property
    def caught_up(self) -> bool:
        """Whether what was in the topic at the start has been read, and what is added is being heard."""
        return self._caught_up.is_set() and self._follower is not None and self._follower.live

    async def until_caught_up(self) -> None:
        """Wait until what was in the topic at the start has been read."""
        await self._caught_up.wait()

    def __contains__(self, request_id: RequestId) -> bool:
        """Whether that request was cancelled."""
        return request_id in self._known

    async def follow(self) -> None:
        """Hear cancellations for ever; waits for the broker as long as it is away."""
        for wait_s in backoff_s(cap_s=2.0):
            try:
                await self._hear()
            except (KafkaError, OSError) as error:
                log.warning("cancellations.not_connected", topic=self._topic, error=repr(error))
            await asyncio.sleep(wait_s)

    async def _hear(self) -> None:
        tail = self._settings.cancellations
        async with Follower(self._settings, self._topic, partitions=[0], tail=tail) as follower:
            self._follower = follower
            await self._take_from(follower)

    async def _take_from(self, follower: Follower) -> None:
        if await follower.caught_up():
            self._caught_up.set()
        async for records in follower.records():
            for record in records:
                self._take(record)
            if not self._caught_up.is_set() and await follower.caught_up():
                self._caught_up.set()

    def _take(self, record: Record) -> None:
        try:
            _, event = decode(record.headers, record.value)
        except (MalformedEventError, UnknownEventError) as error:
            log.warning("cancellation.unreadable", record=record.position, error=str(error))
            return
        if not isinstance(event, RequestCancelled):
            log.warning("cancellation.unreadable", record=record.position, error=f"is {type(event).__name__}")
            return
        self._known[event.request_id] = None
        while len(self._known) > self._settings.cancellations:
            self._known.popitem(last=False)
        self._on_cancelled(event.request_id)
