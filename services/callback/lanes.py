"""Whose turn it is: at most so many calls to an origin, so many waiting, so many calls altogether.

A call that has been answered leaves its place to the next one. Until what came of it is recorded it counts
all the same: when the log is slow, calls begin no faster than they are recorded.

Where calls are scarce, origins that wait take turns, so that a long queue for one does not delay another.

To send a delivery away and take it back costs more than to make it: it is done where a queue stands, for it
would fill the windows of its partitions, and never only because a queue is long. What is not fetched yet
waits in the log at no cost. Whoever is sent away is told when to come back, at the pace of the origin.
"""

import asyncio
import random
import time
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Final

from services.callback import http_metrics
from shared.domain.pacing import (
    LONGEST_WAITS,
    NO_TURNS,
    NOTHING_SERVED,
    Served,
    Turns,
    moves,
    next_turn,
    pace_ms,
    reserve,
    served,
    took,
)

__all__ = ["LANES_KEPT", "RETURN_MS", "UNRECORDED_SHARE", "LaneLimits", "Lanes", "SentAwayError"]

LANES_KEPT: Final = 10_000
LANES_EXAMINED: Final = 2
"""At every new one: more are looked at than are added, so that those that are forgotten keep up."""

SHORTEST_ABSENCE_MS: Final = 1_000
RETURN_MS: Final = 2.0
"""Between two that come back to a destination that was failing: about what one process can deliver. What the
destination cannot take waits in its queue."""

UNRECORDED_SHARE: Final = 3
"""For every call to an origin at a time, so many that are under way or unrecorded: the most that a death
repeats. With less, a log that takes 50 ms would hold up an origin that takes 5."""


class SentAwayError(Exception):
    """There is no room for a call to this origin. Coming back is pointless before `not_before_ms`."""

    def __init__(self, not_before_ms: int, *, by_rate: bool = False) -> None:
        super().__init__(f"no room before {not_before_ms}")
        self.not_before_ms = not_before_ms
        self.by_rate = by_rate


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneLimits:
    """Limits of one origin. `rate` is calls a second, 0 for none.

    Nobody waits longer than `wait_s` in a queue that stands, nor than `longest_wait_s` in one that moves.
    """

    concurrency: int
    queue: int
    wait_s: float
    rate: float = 0.0

    @property
    def longest_wait_s(self) -> float:
        """Longest wait for a call."""
        return self.wait_s * LONGEST_WAITS


@dataclass(slots=True, eq=False)
class _Waiting:
    granted: asyncio.Future[None]
    since_s: float
    place: int
    """Its turn comes once so many have been granted, or sooner where others before it give up."""


@dataclass(slots=True)
class _Lane:
    limits: LaneLimits
    running: int = 0
    unrecorded: int = 0
    waiting: deque[_Waiting] = field(default_factory=deque)
    granted: int = 0
    served: Served = NOTHING_SERVED
    turns: Turns = NO_TURNS
    free_ms: float = 0.0
    begun_s: OrderedDict[object, float] = field(default_factory=OrderedDict)
    """When each call under way began, the oldest first."""

    @property
    def has_room(self) -> bool:
        most = self.limits.concurrency
        return self.running < most and self.running + self.unrecorded < UNRECORDED_SHARE * most

    @property
    def grantable(self) -> bool:
        return bool(self.waiting) and self.has_room

    @property
    def in_use(self) -> bool:
        return bool(self.running or self.unrecorded or self.waiting)

    def pace(self, now_s: float) -> Turns:
        """Its turns as they come now: calls that hang tell of it before they end."""
        oldest_s = next(iter(self.begun_s.values()), None)
        if oldest_s is None:
            return self.turns
        return replace(self.turns, call_ms=max(self.turns.call_ms or 0.0, (now_s - oldest_s) * 1000))

    def is_full(self, now_s: float) -> bool:
        """Whether another one would wait in vain: so many wait already, or the first one does."""
        if len(self.waiting) >= self.limits.queue:
            return True
        if not self.waiting or now_s - self.waiting[0].since_s < self.limits.wait_s / 2:
            return False
        return not self.moves(now_s, len(self.waiting))

    def moves(self, now_s: float, ahead: int) -> bool:
        """Whether one that has `ahead` before it will be served soon."""
        return moves(self.served, now_s, self.limits.wait_s, ahead)

    def idle(self, now_ms: float) -> bool:
        """Whether forgetting this lane changes nothing."""
        return not self.in_use and max(self.free_ms, self.turns.last_ms) <= now_ms


class Lanes:
    """The lanes of all origins."""

    def __init__(self, total: int, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._total = total
        self._clock_s = clock_s
        self._running = 0
        self._lanes: OrderedDict[str, _Lane] = OrderedDict()
        self._next: OrderedDict[str, None] = OrderedDict()

    def __len__(self) -> int:
        """How many origins are remembered."""
        return len(self._lanes)

    @asynccontextmanager
    async def turn(self, origin: str, limits: LaneLimits) -> AsyncIterator[Callable[[], None]]:
        """Leave for one call to `origin`, while entered, and to record what came of it.

        Yields what is to be called, once, when the call has been answered.

        Raises:
            SentAwayError: the queue is full or stands, or the wait was too long.
        """
        lane = self._lane(origin, limits)
        await self._enter(origin, lane)
        call = object()
        is_answered = False

        def answered() -> None:
            nonlocal is_answered
            is_answered = True
            lane.turns = took(lane.turns, (self._clock_s() - lane.begun_s.pop(call)) * 1000)
            lane.unrecorded += 1
            self._leave(origin, lane)

        try:
            await self._keep_rate(lane)
            lane.begun_s[call] = self._clock_s()
            yield answered
        finally:
            lane.begun_s.pop(call, None)
            if is_answered:
                lane.unrecorded -= 1
                self._grant(origin, lane)
            else:
                self._leave(origin, lane)

    def come_back_ms(self, origin: str, limits: LaneLimits, earliest_ms: float) -> int:
        """When one that was sent away for another reason should come back, not before `earliest_ms`.

        What is known of the pace of a destination that fails says nothing of it when it is well again.
        """
        return self._next_turn(self._lane(origin, limits), earliest_ms, RETURN_MS)

    def _lane(self, origin: str, limits: LaneLimits) -> _Lane:
        lane = self._lanes.get(origin)
        if lane is None:
            self._forget_idle()
            lane = self._lanes[origin] = _Lane(limits)
        self._lanes.move_to_end(origin)
        return lane

    async def _enter(self, origin: str, lane: _Lane) -> None:
        if self._running < self._total and lane.has_room and not lane.waiting:
            self._count(lane, 1)
            return
        if lane.is_full(self._clock_s()):
            raise SentAwayError(self._send_away(lane, _now_ms() + SHORTEST_ABSENCE_MS))
        await self._wait(origin, lane)

    async def _wait(self, origin: str, lane: _Lane) -> None:
        granted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        mine = _Waiting(granted, self._clock_s(), lane.granted + len(lane.waiting))
        lane.waiting.append(mine)
        self._grant(origin, lane)
        try:
            with http_metrics.QUEUED.track_inprogress():
                await self._until_granted(mine, lane)
        except BaseException:
            if granted.done():
                self._leave(origin, lane)
            else:
                lane.waiting.remove(mine)
            raise

    async def _until_granted(self, mine: _Waiting, lane: _Lane) -> None:
        """Wait for as long as the queue moves.

        Raises:
            SentAwayError: it stands, or the wait was too long.
        """
        limits = lane.limits
        while not mine.granted.done():
            await asyncio.wait((mine.granted,), timeout=limits.wait_s)
            now_s = self._clock_s()
            waited_s = now_s - mine.since_s
            if mine.granted.done() or waited_s < limits.wait_s:
                continue
            if waited_s >= limits.longest_wait_s or not lane.moves(now_s, mine.place - lane.granted):
                raise SentAwayError(self._send_away(lane, _now_ms() + SHORTEST_ABSENCE_MS))

    async def _keep_rate(self, lane: _Lane) -> None:
        if not lane.limits.rate:
            return
        wait_ms, free_ms = reserve(lane.free_ms, _now_ms(), lane.limits.rate)
        if wait_ms > lane.limits.wait_s * 1000:
            earliest_ms = _now_ms() + max(wait_ms, SHORTEST_ABSENCE_MS)
            raise SentAwayError(self._send_away(lane, earliest_ms), by_rate=True)
        lane.free_ms = free_ms
        await asyncio.sleep(wait_ms / 1000)

    def _leave(self, origin: str, lane: _Lane) -> None:
        self._count(lane, -1)
        self._grant(origin, lane)

    def _grant(self, origin: str, lane: _Lane) -> None:
        """Give what is free to those who wait, one origin after the other; `lane` may have come to wait."""
        if lane.grantable:
            self._next.setdefault(origin)
        while self._next and self._running < self._total:
            origin, _ = self._next.popitem(last=False)
            lane = self._lanes[origin]
            if not lane.grantable:
                continue
            lane.waiting.popleft().granted.set_result(None)
            lane.granted += 1
            lane.served = served(lane.served, self._clock_s(), lane.limits.wait_s, 1)
            self._count(lane, 1)
            if lane.grantable:
                self._next[origin] = None

    def _count(self, lane: _Lane, change: int) -> None:
        lane.running += change
        self._running += change
        http_metrics.CALLS.set(self._running)

    def _send_away(self, lane: _Lane, earliest_ms: float) -> int:
        apart_ms = pace_ms(lane.pace(self._clock_s()), lane.limits.concurrency)
        return self._next_turn(lane, earliest_ms, apart_ms)

    def _next_turn(self, lane: _Lane, earliest_ms: float, apart_ms: float) -> int:
        spread = random.random()  # noqa: S311 - spreads load, hides no secret
        not_before_ms, lane.turns = next_turn(lane.turns, earliest_ms, apart_ms, spread)
        return not_before_ms

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


def _now_ms() -> float:
    return time.time() * 1000
