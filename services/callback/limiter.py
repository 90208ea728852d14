"""Limits of calls: so many to an origin at a time, so many altogether, a share of them for each holder.

A call that has been answered leaves its place to the next one. Until what came of it is recorded it counts
all the same: when the log is slow, calls begin no faster than they are recorded.

Where calls are scarce, origins take turns, and within an origin its submitters. A delivery is sent away in
two cases: its partition has no room for another one to this origin, or the oldest call under way to it takes
so long that the queue stands. Never because this process is slow, which it would be all the more.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from typing import Final, Protocol

from services.callback import http_metrics
from services.callback.origin_queue import Caller, OriginLimits, OriginQueue, Room, Waiter
from services.callback.permit import Permit, SentAwayError
from services.callback.shares import Shares
from shared.domain.pacing import reserve
from shared.kafka.handler import ReleaseRecord

__all__ = ["QUEUES_KEPT", "Clock", "OriginLimiter"]

QUEUES_KEPT: Final = 10_000
QUEUES_EXAMINED: Final = 2
"""At every new one: more are looked at than are added, so that those that are forgotten keep up."""

SHARE: Final = 4
"""No submitter and no address has more than one in so many calls."""

SHORTEST_LOOK_S: Final = 0.05
EARLY_S: Final = 0.002
"""A timer of uvloop may fire a millisecond before its time."""


class Clock(Protocol):
    """Time as this process lives it."""

    def now_s(self) -> float:
        """Seconds since any point."""


class OriginLimiter:
    """The calls of all origins.

    Args:
        total: calls at a time.
        room: for deliveries of all origins.
        clock: what ages are taken by.
        begin_reserve: room beside `room`, in deliveries of a partition whose call can begin at once.
    """

    def __init__(
        self,
        total: int,
        room: Room,
        clock: Clock,
        begin_reserve: int = 0,
    ) -> None:
        self._total = total
        self._room = room
        self._clock = clock
        self.on_place: Callable[[str], None] = _nobody
        """Called with an origin that may have another call now, and nobody waiting for it."""

        self._begin_reserve = begin_reserve
        self._running = 0
        self._shares = Shares(max(1, total // SHARE))
        self._closed = False
        self._queues: OrderedDict[str, OriginQueue] = OrderedDict()
        self._next: OrderedDict[str, None] = OrderedDict()

    def __len__(self) -> int:
        """How many origins are remembered."""
        return len(self._queues)

    async def acquire(self, origin: str, limits: OriginLimits, caller: Caller) -> Permit:
        """The right to one call to `origin`, to be entered at once.

        Raises:
            SentAwayError: there is no room, or the queue stands, or the wait or the rate's was too long.
            ReleaseRecord: the limiter was closed before it began.
        """
        queue = self._queue(origin, limits)
        self._check_entry(queue, caller)
        queue.enter(caller)
        self._room.take(caller)
        try:
            await self._until_granted(origin, queue, caller)
        except BaseException:
            self._leave(origin, queue, caller)
            raise
        permit = Permit(
            queue, partial(self._end_call, origin, queue, caller), partial(self._leave, origin, queue, caller)
        )
        queue.begun_s[permit] = self._clock.now_s()
        return permit

    def places(self, origin: str) -> int:
        """How many calls to `origin` could begin now, nobody waiting for any."""
        free = self._total - self._running
        queue = self._queues.get(origin)
        if queue is None:
            return min(1, free)
        if queue.waiting or not queue.has_place:
            return 0
        return min(free, queue.limits.concurrency - queue.running)

    def rate_wait_s(self, origin: str) -> float:
        """How long the rate keeps the next call to `origin` waiting."""
        queue = self._queues.get(origin)
        return 0.0 if queue is None else queue.rate_wait_ms(_now_ms()) / 1_000

    def close(self) -> None:
        """Let nobody wait or begin any more: another process will make their calls."""
        self._closed = True
        for queue in self._queues.values():
            for waiter in list(queue.waiters()):
                queue.remove(waiter)
                waiter.granted.set_result(False)

    def _end_call(self, origin: str, queue: OriginQueue, caller: Caller, call: object) -> None:
        """Give the place of a call to the next one."""
        queue.begun_s.pop(call, None)
        self._count(queue, -1)
        for other in self._shares.free(caller):
            self._next.setdefault(other)
        self._grant(origin, queue)

    def _leave(self, origin: str, queue: OriginQueue, caller: Caller) -> None:
        """Give back the room of one that neither waits nor is under way any more."""
        queue.leave(caller)
        self._room.free(caller)
        self._grant(origin, queue)

    def _queue(self, origin: str, limits: OriginLimits) -> OriginQueue:
        queue = self._queues.get(origin)
        if queue is None:
            self._forget_idle()
            room = Room(limits.queue + limits.concurrency, limits.queue_bytes)
            queue = self._queues[origin] = OriginQueue(limits, room)
        self._queues.move_to_end(origin)
        return queue

    def _check_entry(self, queue: OriginQueue, caller: Caller) -> None:
        if self._closed:
            raise ReleaseRecord
        rate_wait_ms = queue.rate_wait_ms(_now_ms())
        if rate_wait_ms > queue.limits.wait_s * 1_000:
            raise SentAwayError(rate_wait_ms, by_rate=True)
        begins = self._may_begin(queue, caller)
        if not begins and not queue.limits.queue:
            raise SentAwayError
        fits = queue.room.has(caller) and self._room.has(caller, reserve=self._begin_reserve * begins)
        if not fits or (not begins and queue.stands(self._clock.now_s())):
            raise SentAwayError

    def _may_begin(self, queue: OriginQueue, caller: Caller) -> bool:
        is_free = self._running < self._total and self._shares.has(caller)
        return is_free and queue.has_place and queue.free_ms <= _now_ms() and not queue.waiting

    async def _until_granted(self, origin: str, queue: OriginQueue, caller: Caller) -> None:
        if self._may_begin(queue, caller):
            self._begin(queue, caller)
            return
        granted = asyncio.get_running_loop().create_future()
        waiter = Waiter(caller, self._clock.now_s(), granted)
        queue.add(waiter)
        self._grant(origin, queue)
        try:
            with http_metrics.QUEUED.track_inprogress(), http_metrics.QUEUE_SECONDS.time():
                await self._wait(waiter, queue)
        except BaseException:
            if not granted.done():
                queue.remove(waiter)
            elif granted.result():
                self._end_call(origin, queue, caller, waiter)
            raise
        if not granted.result():
            raise ReleaseRecord

    async def _wait(self, waiter: Waiter, queue: OriginQueue) -> None:
        """Wait for a call for as long as the queue moves.

        Raises:
            SentAwayError: the queue stands, or the wait was too long.
        """
        while not waiter.granted.done():
            await asyncio.wait((waiter.granted,), timeout=self._look_in_s(waiter, queue))
            now_s = self._clock.now_s()
            if waiter.granted.done() or queue.awaits_log:
                continue
            too_long = now_s - waiter.since_s >= queue.limits.longest_wait_s
            if too_long or queue.stands(now_s):
                raise SentAwayError

    def _look_in_s(self, waiter: Waiter, queue: OriginQueue) -> float:
        """When at the earliest a reason to leave may have come."""
        now_s = self._clock.now_s()
        stands_in_s = queue.limits.wait_s - queue.oldest_s(now_s)
        leaves_in_s = waiter.since_s + queue.limits.longest_wait_s - now_s
        return max(min(stands_in_s, leaves_in_s), SHORTEST_LOOK_S) + EARLY_S

    def _grant(self, origin: str, queue: OriginQueue) -> None:
        """Give what is free to those who wait, one origin after the other; `queue` may have come to wait."""
        if queue.grantable:
            self._next.setdefault(origin)
        while self._next and self._running < self._total:
            other, _ = self._next.popitem(last=False)
            self._grant_one(other)
        if not queue.waiting and queue.has_place:
            self.on_place(origin)

    def _grant_one(self, origin: str) -> None:
        queue = self._queues.get(origin)
        if queue is None or not queue.grantable:
            return
        if queue.free_ms > _now_ms():
            self._grant_later(origin, queue)
            return
        waiter = queue.pop(self._shares.has)
        if waiter is None:
            for line in queue.waiting.values():
                self._shares.wait(origin, line[0].caller)
            return
        waiter.granted.set_result(True)
        self._begin(queue, waiter.caller)
        if queue.grantable:
            self._next[origin] = None

    def _grant_later(self, origin: str, queue: OriginQueue) -> None:
        """Have those who wait looked at when the rate allows another call; they hold no place until then."""
        if queue.timer is None:
            wait_s = (queue.free_ms - _now_ms()) / 1_000 + EARLY_S
            queue.timer = asyncio.get_running_loop().call_later(wait_s, self._rate_allows, origin, queue)

    def _rate_allows(self, origin: str, queue: OriginQueue) -> None:
        queue.timer = None
        self._grant(origin, queue)

    def _begin(self, queue: OriginQueue, caller: Caller) -> None:
        self._shares.take(caller)
        self._count(queue, 1)
        if queue.limits.rate:
            _, queue.free_ms = reserve(queue.free_ms, _now_ms(), queue.limits.rate)

    def _count(self, queue: OriginQueue, change: int) -> None:
        queue.running += change
        self._running += change
        http_metrics.CALLS.set(self._running)

    def _forget_idle(self) -> None:
        """Drop queues that were used least recently: idle ones, and beyond the bound those with a rate."""
        now_ms = _now_ms()
        for _ in range(min(QUEUES_EXAMINED, len(self._queues))):
            origin, queue = next(iter(self._queues.items()))
            if queue.entered:
                self._queues.move_to_end(origin)
            elif queue.idle(now_ms) or len(self._queues) > QUEUES_KEPT:
                del self._queues[origin]
                self._next.pop(origin, None)
        http_metrics.LANES.set(len(self._queues))


def _nobody(_: str) -> None:
    pass


def _now_ms() -> float:
    return time.monotonic() * 1000
