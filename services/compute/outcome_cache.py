"""One outcome for one request: a repeat waits for the work on it, or is answered from memory."""

import asyncio
from collections import OrderedDict

from services.compute import metrics
from shared.domain.types import RequestId
from shared.events.codec import EncodedEvent

__all__ = ["OutcomeCache"]


class OutcomeCache:
    """The requests that this process works on, and the last outcomes that it has written.

    Args:
        most: how many outcomes are kept.
        most_bytes: how many bytes of their events are kept.
    """

    def __init__(self, most: int, most_bytes: int) -> None:
        self._most = most
        self._room = most_bytes
        self._in_work: dict[RequestId, asyncio.Event | None] = {}
        self._finished: OrderedDict[RequestId, EncodedEvent] = OrderedDict()

    async def known_or_claimed(self, request_id: RequestId) -> EncodedEvent | None:
        """The outcome as written, or None: the caller then has to produce it, and to `settle` in the end.

        Only one caller at a time produces the outcome of a request; when it fails, the next one has to.
        """
        while request_id in self._in_work:
            ended = self._in_work[request_id] = self._in_work[request_id] or asyncio.Event()
            await ended.wait()
        known = self._finished.get(request_id)
        if known is not None:
            metrics.REPEATS.inc()
        else:
            self._in_work[request_id] = None
        return known

    def settle(self, request_id: RequestId, outcome: EncodedEvent | None) -> None:
        """Keep the outcome that the caller has produced, or None if it has failed, and let repeats go on."""
        if outcome is not None:
            self._remember(request_id, outcome)
        ended = self._in_work.pop(request_id)
        if ended is not None:
            ended.set()

    def _remember(self, request_id: RequestId, outcome: EncodedEvent) -> None:
        self._finished[request_id] = outcome
        self._room -= len(outcome.value)
        while self._finished and (self._room < 0 or len(self._finished) > self._most):
            _, forgotten = self._finished.popitem(last=False)
            self._room += len(forgotten.value)
