"""One origin's calls: its limits, which are under way, and which wait, by submitter."""

import asyncio
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

__all__ = ["LONGEST_WAITS", "UNRECORDED_SHARE", "Caller", "OriginLimits", "OriginQueue", "Room", "Waiter"]

UNRECORDED_SHARE: Final = 3
"""For every call to an origin at a time, so many that are under way or unrecorded: the most that a death
repeats. With less, a log that takes 50 ms would hold up an origin that takes 5."""

LONGEST_WAITS: Final = 4
"""The longest wait in a queue that moves, for every `wait_s`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OriginLimits:
    """Limits of one origin. `rate` is calls a second, 0 for none.

    `queue` and `queue_bytes` bound what waits or is under way of each partition, `concurrency` calls beside
    `queue`. Nobody waits beside a call that takes longer than `wait_s`, nor longer than `longest_wait_s`.
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """A delivery, as far as limits are concerned: its submitter, its address, and the room of its record."""

    submitter: str = ""
    address: str = ""
    partition: int = 0
    size: int = 0


class Room:
    """How many deliveries of each partition may wait or be under way, and how many bytes of their records.

    Less than half of a partition's window, so that its other records are fetched whoever is slow.
    """

    def __init__(self, deliveries: int, size: int) -> None:
        self._deliveries = deliveries
        self._size = size
        self._taken: Counter[int] = Counter()
        self._taken_bytes: Counter[int] = Counter()

    def has(self, caller: Caller, *, reserve: int = 0) -> bool:
        """Whether `caller` fits; a single one always, where any may. `reserve` adds room for deliveries."""
        taken = self._taken[caller.partition]
        fits = not taken or self._taken_bytes[caller.partition] + caller.size <= self._size
        return taken < self._deliveries + reserve and fits

    def take(self, caller: Caller) -> None:
        """Count `caller` in."""
        self._taken[caller.partition] += 1
        self._taken_bytes[caller.partition] += caller.size

    def free(self, caller: Caller) -> None:
        """Count `caller` out."""
        self._taken[caller.partition] -= 1
        self._taken_bytes[caller.partition] -= caller.size
        if not self._taken[caller.partition]:
            del self._taken[caller.partition], self._taken_bytes[caller.partition]


@dataclass(slots=True, eq=False)
class Waiter:
    """One that waits for a call: `granted` becomes True with it, False when the service stops."""

    caller: Caller
    since_s: float
    granted: asyncio.Future[bool]


@dataclass(slots=True)
class OriginQueue:
    """The calls of one origin."""

    limits: OriginLimits
    room: Room
    entered: int = 0
    """Deliveries that wait for anything, are under way or unrecorded."""

    running: int = 0
    unrecorded: int = 0
    free_ms: float = 0.0
    """From when on the rate allows another call, by the monotonic clock."""

    timer: asyncio.TimerHandle | None = None
    """Looks at those who wait when the rate allows another call."""

    begun_s: OrderedDict[object, float] = field(default_factory=OrderedDict)
    """When each call under way began, the oldest first."""

    waiting: OrderedDict[str, deque[Waiter]] = field(default_factory=OrderedDict)
    """By submitter; the one whose turn is next first."""

    @property
    def has_place(self) -> bool:
        """Whether another call may begin."""
        most = self.limits.concurrency
        return self.running < most and self.running + self.unrecorded < UNRECORDED_SHARE * most

    @property
    def awaits_log(self) -> bool:
        """Whether only what is not recorded yet keeps the next call from beginning.

        To send somebody away would not help: that has to be recorded as well.
        """
        return self.running < self.limits.concurrency and not self.has_place

    @property
    def grantable(self) -> bool:
        """Whether one who waits may have a call."""
        return bool(self.waiting) and self.has_place

    def rate_wait_ms(self, now_ms: float) -> float:
        """How long the rate keeps one more waiting, behind those who wait already."""
        if not self.limits.rate:
            return 0.0
        before = sum(map(len, self.waiting.values()))
        return max(0.0, self.free_ms - now_ms) + before * 1_000 / self.limits.rate

    def oldest_s(self, now_s: float) -> float:
        """How long the oldest call under way has taken."""
        begun_s = next(iter(self.begun_s.values()), now_s)
        return now_s - begun_s

    def stands(self, now_s: float) -> bool:
        """Whether the destination itself keeps those waiting who come now."""
        hangs = self.oldest_s(now_s) > self.limits.wait_s
        return hangs and self.running >= self.limits.concurrency

    def idle(self, now_ms: float) -> bool:
        """Whether forgetting this queue changes nothing."""
        return not self.entered and self.free_ms <= now_ms

    def enter(self, caller: Caller) -> None:
        """Count a delivery that begins to wait."""
        self.room.take(caller)
        self.entered += 1

    def leave(self, caller: Caller) -> None:
        """Count one out that has ended, however it did."""
        self.room.free(caller)
        self.entered -= 1

    def add(self, waiter: Waiter) -> None:
        """Let `waiter` wait behind those of its submitter."""
        self.waiting.setdefault(waiter.caller.submitter, deque()).append(waiter)

    def remove(self, waiter: Waiter) -> None:
        """Let `waiter` wait no more."""
        line = self.waiting[waiter.caller.submitter]
        line.remove(waiter)
        if not line:
            del self.waiting[waiter.caller.submitter]

    def pop(self, may_call: Callable[[Caller], bool]) -> Waiter | None:
        """The next one that may call: submitters take turns."""
        for submitter, line in list(self.waiting.items()):
            if may_call(line[0].caller):
                waiter = line.popleft()
                del self.waiting[submitter]
                if line:
                    self.waiting[submitter] = line
                return waiter
        return None

    def waiters(self) -> Iterator[Waiter]:
        """Everybody who waits."""
        for line in self.waiting.values():
            yield from line
