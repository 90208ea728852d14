"""One outcome for one request: a repeat joins the work on it, or is answered from memory."""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable

from services.compute import metrics
from shared.domain.types import RequestId
from shared.events.codec import EncodedEvent

__all__ = ["RecentOutcomes"]


class RecentOutcomes:
    """The outcomes that this process is producing, and the last ones that it has produced.

    Args:
        most: how many finished ones are kept.
        most_bytes: how many bytes of their events are kept.
    """

    def __init__(self, most: int, most_bytes: int) -> None:
        self._most = most
        self._room = most_bytes
        self._in_work: dict[RequestId, asyncio.Event] = {}
        self._finished: OrderedDict[RequestId, EncodedEvent] = OrderedDict()

    async def of(self, request_id: RequestId, produce: Callable[[], Awaitable[EncodedEvent]]) -> EncodedEvent:
        """The outcome of that request, as written: a known one, or else that of `produce`.

        Only one call for a request produces at a time; when it fails or is cancelled, one that waits takes
        its place.
        """
        while (first := self._in_work.get(request_id)) is not None:
            await first.wait()
        known = self._finished.get(request_id)
        if known is not None:
            metrics.REPEATS.inc()
            return known
        self._in_work[request_id] = ended = asyncio.Event()
        try:
            outcome = await produce()
            self._remember(request_id, outcome)
        finally:
            del self._in_work[request_id]
            ended.set()
        return outcome

    def _remember(self, request_id: RequestId, outcome: EncodedEvent) -> None:
        self._finished[request_id] = outcome
        self._room -= len(outcome.value)
        while self._finished and (self._room < 0 or len(self._finished) > self._most):
            _, forgotten = self._finished.popitem(last=False)
            self._room += len(forgotten.value)
