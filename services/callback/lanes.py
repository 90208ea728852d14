"""Whose turn it is: at most so many calls to an origin, so many waiting, so many calls altogether.

A call that has been answered leaves its place to the next one. Until what came of it is recorded it counts
all the same: when the log is slow, calls begin no faster than they are recorded.

Where calls are scarce, origins that wait take turns, so that a long queue for one does not delay another.

To send a delivery away and take it back costs more than to make it. It is done where a queue stands, and
where so many wait that their partitions would; never because this process is slow, which it would be all the
more. Whoever is sent away is told when to come back, at the pace of the origin.
"""

import asyncio
import random
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Final, Protocol

from services.callback import http_metrics
from services.callback.lane import Lane, LaneLimits, Room, Waiting
from shared.domain.pacing import PATIENCE, most_waiting, next_turn, pace_ms, reserve, took
from shared.kafka.handler import ReleaseRecord

__all__ = ["LANES_KEPT", "RETURN_MS", "SHORTEST_ABSENCE_MS", "Clock", "Lanes", "SentAwayError"]

LANES_KEPT: Final = 10_000
LANES_EXAMINED: Final = 2
"""At every new one: more are looked at than are added, so that those that are forgotten keep up."""

SHORTEST_ABSENCE_MS: Final = 1_000
RETURN_MS: Final = 2.0
"""Between two that come back to a destination that was failing: about what one process can deliver. What the
destination cannot take waits in its queue."""

SHORTEST_SPAN_S: Final = 0.05
EARLY_S: Final = 0.002
"""A timer of uvloop may fire a millisecond before its time."""


class SentAwayError(Exception):
    """There is no room for a call to this origin. Coming back is pointless before `not_before_ms`."""

    def __init__(self, not_before_ms: int, *, by_rate: bool = False) -> None:
        super().__init__(f"no room before {not_before_ms}")
        self.not_before_ms = not_before_ms
        self.by_rate = by_rate


class Clock(Protocol):
    """Time as this process lives it."""

    def now_s(self) -> float:
        """Seconds since any point."""

    @property
    def is_behind(self) -> bool:
        """Whether the process has more to do than it gets done."""


class Lanes:
    """The lanes of all origins.

    Args:
        total: calls at a time.
        room: of all that wait.
        clock: what ages are taken by.
    """

    def __init__(self, total: int, room: Room, clock: Clock) -> None:
        self._total = total
        self._room = room
        self._clock = clock
        self._running = 0
        self._closing = asyncio.Event()
        self._lanes: OrderedDict[str, Lane] = OrderedDict()
        self._next: OrderedDict[str, None] = OrderedDict()

    def __len__(self) -> int:
        """How many origins are remembered."""
        return len(self._lanes)

    @asynccontextmanager
    async def turn(
        self, origin: str, limits: LaneLimits, *, partition: int = 0, size: int = 0
    ) -> AsyncIterator[Callable[[], None]]:
        """Leave for one call to `origin`, while entered, and to record what came of it.

        Yields what is to be called, once, when the call has been answered. `partition` is the one whose
        window the delivery takes room in while it waits, `size` its bytes.

        Raises:
            SentAwayError: too many wait, or the queue stands, or the wait or the rate's was too long.
            ReleaseRecord: the lanes were closed before it began.
        """
        lane = self._lane(origin, limits)
        await self._enter(origin, lane, partition, size)
        call = object()
        is_answered = False

        def answered() -> None:
            nonlocal is_answered
            is_answered = True
            lane.calls = took(lane.calls, (self._clock.now_s() - lane.begun_s.pop(call)) * 1000)
            lane.unrecorded += 1
            self._leave(origin, lane)

        try:
            await self._keep_rate(lane)
            lane.begun_s[call] = self._clock.now_s()
            yield answered
        finally:
            lane.begun_s.pop(call, None)
            if is_answered:
                lane.unrecorded -= 1
                self._grant(origin, lane)
            else:
                self._leave(origin, lane)

    def come_back_ms(self, origin: str, limits: LaneLimits, earliest_ms: float) -> int:
        """When one that was sent away by a breaker should come back, not before `earliest_ms`.

        What is known of the pace of a destination that fails says nothing of it when it is well again.
        """
        lane = self._lane(origin, limits)
        not_before_ms, lane.return_ms = _next_turn(lane.return_ms, earliest_ms, RETURN_MS)
        return not_before_ms

    def close(self) -> None:
        """Let nobody wait or begin any more: another process will make their calls."""
        self._closing.set()
        for lane in self._lanes.values():
            while lane.waiting:
                lane.waiting.popleft().granted.set_result(False)

    def _lane(self, origin: str, limits: LaneLimits) -> Lane:
        lane = self._lanes.get(origin)
        if lane is None:
            self._forget_idle()
            lane = self._lanes[origin] = Lane(limits, Room(limits.queue, limits.queue_bytes))
        self._lanes.move_to_end(origin)
        return lane

    async def _enter(self, origin: str, lane: Lane, partition: int, size: int) -> None:
        if self._closing.is_set():
            raise ReleaseRecord
        if self._running < self._total and lane.has_room and not lane.waiting:
            self._count(lane, 1)
            return
        if not self._may_wait(lane, partition, size):
            raise self._sent_away(lane)
        with lane.room.taken(partition, size), self._room.taken(partition, size):
            await self._wait(origin, lane)

    def _may_wait(self, lane: Lane, partition: int, size: int) -> bool:
        """Whether there is room: for all origins, and for this one, as long as that is what is slow."""
        limits = lane.limits
        if not limits.queue or not self._room.has(partition, size):
            return False
        if lane.awaits_log or self._clock.is_behind:
            return True
        most = most_waiting(lane.calls, limits.concurrency, limits.wait_s)
        return len(lane.waiting) < most and lane.room.has(partition, size)

    async def _wait(self, origin: str, lane: Lane) -> None:
        mine = Waiting(asyncio.get_running_loop().create_future(), self._clock.now_s())
        lane.waiting.append(mine)
        self._grant(origin, lane)
        try:
            with http_metrics.QUEUED.track_inprogress(), http_metrics.QUEUE_SECONDS.time():
                await self._until_granted(mine, lane)
        except BaseException:
            if not mine.granted.done():
                lane.waiting.remove(mine)
            elif mine.granted.result():
                self._leave(origin, lane)
            raise
        if not mine.granted.result():
            raise ReleaseRecord

    async def _until_granted(self, mine: Waiting, lane: Lane) -> None:
        """Wait for as long as the queue moves: until all before it are served soon, at the pace of late.

        Raises:
            SentAwayError: the queue stands, or the wait was too long.
        """
        limits = lane.limits
        while not mine.granted.done():
            granted_before = lane.granted
            await self._span(mine, max(limits.wait_s, SHORTEST_SPAN_S))
            if mine.granted.done() or lane.awaits_log:
                continue
            too_long = self._clock.now_s() - mine.since_s >= limits.longest_wait_s
            moved = lane.granted - granted_before
            if too_long or not (self._clock.is_behind or lane.waiting.index(mine) < PATIENCE * moved):
                raise self._sent_away(lane)

    async def _span(self, mine: Waiting, wait_s: float) -> None:
        """Wait for a call, `wait_s` at most."""
        end_s = self._clock.now_s() + wait_s
        while not mine.granted.done() and (left_s := end_s - self._clock.now_s()) > 0:
            await asyncio.wait((mine.granted,), timeout=left_s + EARLY_S)

    async def _keep_rate(self, lane: Lane) -> None:
        if not lane.limits.rate:
            return
        wait_ms, free_ms = reserve(lane.free_ms, _now_ms(), lane.limits.rate)
        if wait_ms > lane.limits.wait_s * 1000:
            raise self._sent_away(lane, wait_ms, by_rate=True)
        lane.free_ms = free_ms
        if wait_ms > 0:
            with suppress(TimeoutError):
                async with asyncio.timeout(wait_ms / 1000):
                    await self._closing.wait()
                raise ReleaseRecord

    def _leave(self, origin: str, lane: Lane) -> None:
        self._count(lane, -1)
        self._grant(origin, lane)

    def _grant(self, origin: str, lane: Lane) -> None:
        """Give what is free to those who wait, one origin after the other; `lane` may have come to wait."""
        if lane.grantable:
            self._next.setdefault(origin)
        while self._next and self._running < self._total:
            origin, _ = self._next.popitem(last=False)
            lane = self._lanes[origin]
            if not lane.grantable:
                continue
            lane.waiting.popleft().granted.set_result(True)
            lane.granted += 1
            self._count(lane, 1)
            if lane.grantable:
                self._next[origin] = None

    def _count(self, lane: Lane, change: int) -> None:
        lane.running += change
        self._running += change
        http_metrics.CALLS.set(self._running)

    def _sent_away(self, lane: Lane, wait_ms: float = 0.0, *, by_rate: bool = False) -> SentAwayError:
        """What to raise for one that would have to wait at least `wait_ms`."""
        earliest_ms = _now_ms() + max(wait_ms, SHORTEST_ABSENCE_MS)
        apart_ms = pace_ms(lane.pace(self._clock.now_s()), lane.limits.concurrency)
        not_before_ms, lane.turn_ms = _next_turn(lane.turn_ms, earliest_ms, apart_ms)
        return SentAwayError(not_before_ms, by_rate=by_rate)

    def _forget_idle(self) -> None:
        """Drop lanes that were used least recently: idle ones, and beyond the bound those that only wait."""
        now_ms = _now_ms()
        for _ in range(LANES_EXAMINED):
            if not self._lanes:
                break
            origin, lane = next(iter(self._lanes.items()))
            if lane.in_use:
                self._lanes.move_to_end(origin)
            elif lane.idle(now_ms) or len(self._lanes) > LANES_KEPT:
                del self._lanes[origin]
                self._next.pop(origin, None)
        http_metrics.LANES.set(len(self._lanes))


def _next_turn(free_ms: float, earliest_ms: float, apart_ms: float) -> tuple[int, float]:
    return next_turn(free_ms, earliest_ms, apart_ms, random.random())  # noqa: S311 - hides no secret


def _now_ms() -> float:
    return time.time() * 1000
