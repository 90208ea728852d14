"""Waiting for times of the wall clock: any number of tasks, one timer.

What waits here is never woken early by the clock of this process, not even when that clock is set back; a
clock that is set forward is noticed within `CHECK_S`.
"""

import asyncio
import heapq
import itertools
import time
from collections.abc import Callable
from typing import Final

from shared.kafka.handler import ReleaseRecord

__all__ = ["DelayQueue", "wall_clock_ms"]

CHECK_S: Final = 1.0
"""The wall clock is looked at so often at least while anything waits: it may have been set."""

MANY: Final = 64
"""Cancelled entries that are not worth the work of dropping them."""


def wall_clock_ms() -> int:
    """Now, in ms since the epoch."""
    return time.time_ns() // 1_000_000


class DelayQueue:
    """Tasks that wait, the earliest on top. `now_ms` is the clock that decides."""

    def __init__(self, now_ms: Callable[[], int] = wall_clock_ms) -> None:
        self._now_ms = now_ms
        self._heap: list[tuple[int, int, asyncio.Future[None]]] = []
        self._numbers = itertools.count()
        self._timer: asyncio.TimerHandle | None = None
        self._armed_for_ms = 0
        self._waiting = 0
        self._closed = False

    def __len__(self) -> int:
        """How many tasks wait."""
        return self._waiting

    async def wait_until(self, due_ms: int) -> None:
        """Return as soon as the clock shows `due_ms`.

        Raises:
            ReleaseRecord: the heap was closed, before or meanwhile.
        """
        if self._closed:
            raise ReleaseRecord
        waiting = asyncio.get_running_loop().create_future()
        heapq.heappush(self._heap, (due_ms, next(self._numbers), waiting))
        if self._timer is None or due_ms < self._armed_for_ms:
            self._arm()
        self._waiting += 1
        try:
            await waiting
        finally:
            self._waiting -= 1
            self._drop_cancelled()

    def close(self) -> None:
        """Send everybody who waits away, and whoever comes."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        heap, self._heap = self._heap, []
        for _, _, waiting in heap:
            if not waiting.done():
                waiting.set_exception(ReleaseRecord())

    def _arm(self) -> None:
        """Have the earliest woken when it is due, or the clock looked at before that."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._heap:
            self._armed_for_ms = self._heap[0][0]
            wait_s = min(max(self._armed_for_ms - self._now_ms(), 0) / 1000, CHECK_S)
            self._timer = asyncio.get_running_loop().call_later(wait_s, self._fire)

    def _fire(self) -> None:
        now_ms = self._now_ms()
        while self._heap and (self._heap[0][0] <= now_ms or self._heap[0][2].done()):
            waiting = heapq.heappop(self._heap)[2]
            if not waiting.done():
                waiting.set_result(None)
        self._timer = None
        self._arm()

    def _drop_cancelled(self) -> None:
        """Rebuild the heap once most of it has been cancelled, as a rebalance does."""
        if len(self._heap) > 2 * self._waiting + MANY:
            self._heap = [each for each in self._heap if not each[2].done()]
            heapq.heapify(self._heap)
