"""One origin's lane: its limits, who runs, who waits, and at which pace it serves."""

import asyncio
from collections import Counter, OrderedDict, deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Final

from shared.domain.pacing import LONGEST_WAITS, NO_PACE, Pace

__all__ = ["UNRECORDED_SHARE", "Lane", "LaneLimits", "Room", "Waiting"]

UNRECORDED_SHARE: Final = 3
"""For every call to an origin at a time, so many that are under way or unrecorded: the most that a death
repeats. With less, a log that takes 50 ms would hold up an origin that takes 5."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneLimits:
    """Limits of one origin. `rate` is calls a second, 0 for none.

    `queue` and `queue_bytes` bound what waits of each partition. Nobody waits longer than `wait_s` in a queue
    that stands, nor than `longest_wait_s` in one that moves.
    """

    concurrency: int
    queue: int
    wait_s: float
    queue_bytes: int = 4 * 1024 * 1024
    rate: float = 0.0

    @property
    def longest_wait_s(self) -> float:
        """Longest wait for a call."""
        return self.wait_s * LONGEST_WAITS


class Room:
    """How many deliveries of each partition may wait, and how many bytes of their bodies.

    Less than the window of a partition, so that its other records are fetched whoever waits.
    """

    def __init__(self, deliveries: int, size: int) -> None:
        self._deliveries = deliveries
        self._size = size
        self._taken: Counter[int] = Counter()
        self._taken_bytes: Counter[int] = Counter()

    def has(self, partition: int, size: int) -> bool:
        """Whether one more of `size` bytes may wait; a single one always, where any may."""
        taken = self._taken[partition]
        fits = not taken or self._taken_bytes[partition] + size <= self._size
        return taken < self._deliveries and fits

    @contextmanager
    def taken(self, partition: int, size: int) -> Iterator[None]:
        """One more waits, while entered."""
        self._taken[partition] += 1
        self._taken_bytes[partition] += size
        try:
            yield
        finally:
            self._taken[partition] -= 1
            self._taken_bytes[partition] -= size
            if not self._taken[partition]:
                del self._taken[partition], self._taken_bytes[partition]


@dataclass(slots=True, eq=False)
class Waiting:
    """One that waits for a call: `granted` becomes True with it, False when the service stops."""

    granted: asyncio.Future[bool]
    since_s: float


@dataclass(slots=True)
class Lane:
    """The lane of one origin."""

    limits: LaneLimits
    room: Room
    running: int = 0
    unrecorded: int = 0
    granted: int = 0
    """How many of those that waited have had their turn."""
    waiting: deque[Waiting] = field(default_factory=deque)
    calls: Pace = NO_PACE
    free_ms: float = 0.0
    """From when on the rate allows another call."""
    turn_ms: float = 0.0
    """The next turn of those sent away because the queue was full."""
    return_ms: float = 0.0
    """The next turn of those who come back when a breaker may close."""
    begun_s: OrderedDict[object, float] = field(default_factory=OrderedDict)
    """When each call under way began, the oldest first."""

    @property
    def has_room(self) -> bool:
        """Whether another call may begin."""
        most = self.limits.concurrency
        return self.running < most and self.running + self.unrecorded < UNRECORDED_SHARE * most

    @property
    def awaits_log(self) -> bool:
        """Whether only what is not recorded yet keeps the next call from beginning.

        To send somebody away would not help: that has to be recorded as well.
        """
        return self.running < self.limits.concurrency and not self.has_room

    @property
    def grantable(self) -> bool:
        """Whether one who waits may have a call."""
        return bool(self.waiting) and self.has_room

    @property
    def in_use(self) -> bool:
        """Whether anybody runs or waits."""
        return bool(self.running or self.unrecorded or self.waiting)

    def pace(self, now_s: float) -> Pace:
        """The pace of calls as it is now: those that hang tell of it before they end."""
        oldest_s = next(iter(self.begun_s.values()), None)
        if oldest_s is None:
            return self.calls
        return replace(self.calls, call_ms=max(self.calls.known_ms, (now_s - oldest_s) * 1000))

    def idle(self, now_ms: float) -> bool:
        """Whether forgetting this lane changes nothing."""
        return not self.in_use and max(self.free_ms, self.turn_ms, self.return_ms) <= now_ms
