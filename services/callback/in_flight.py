"""One attempt per request at a time: what comes twice while it is under way is not made twice."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from shared.domain.callbacks import Delivery
from shared.domain.types import RequestId

__all__ = ["InFlight"]

Rank = tuple[int, int, int]
"""Replay, attempt and deferrals: a delivery of a higher rank is a later one."""


@dataclass(slots=True)
class _Attempt:
    rank: Rank
    over: asyncio.Event = field(default_factory=asyncio.Event)


class InFlight:
    """The attempts that are under way, by request.

    A repeat of what is under way may be finished at once: the offset of the one under way is committed only
    when its effect is durable, so whoever takes over after a crash finds it again.
    """

    def __init__(self) -> None:
        self._under_way: dict[RequestId, _Attempt] = {}

    @asynccontextmanager
    async def attempting(self, delivery: Delivery) -> AsyncIterator[bool]:
        """Enter with True to attempt `delivery`, with False when it is a repeat.

        A later one waits until the one under way has ended: it may be what that one has just written, read
        from the log before its acknowledgement has come.
        """
        request_id = delivery.request_id
        rank = (delivery.replay_count, delivery.attempt, delivery.deferrals)
        while (other := self._under_way.get(request_id)) is not None:
            if rank <= other.rank:
                yield False
                return
            await other.over.wait()
        mine = self._under_way[request_id] = _Attempt(rank)
        try:
            yield True
        finally:
            del self._under_way[request_id]
            mine.over.set()
