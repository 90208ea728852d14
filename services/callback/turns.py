"""One attempt per request at a time: what comes twice while it is under way is not made twice."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from shared.domain.callbacks import Delivery
from shared.domain.types import RequestId

__all__ = ["Turns"]

Rank = tuple[int, int, int]
"""Replay, attempt and deferrals: a delivery of a higher rank is a later one."""


@dataclass(slots=True)
class _Turn:
    rank: Rank
    over: asyncio.Event = field(default_factory=asyncio.Event)


class Turns:
    """Who is attempting which request's callback.

    A repeat of what is under way may be finished at once: the offset of the one under way is committed only
    when its effect is durable, so whoever takes over after a crash finds it again.
    """

    def __init__(self) -> None:
        self._under_way: dict[RequestId, _Turn] = {}

    @asynccontextmanager
    async def turn(self, delivery: Delivery) -> AsyncIterator[bool]:
        """Enter with True when it is the turn of `delivery`, with False when it is a repeat.

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
        mine = self._under_way[request_id] = _Turn(rank)
        try:
            yield True
        finally:
            del self._under_way[request_id]
            mine.over.set()
