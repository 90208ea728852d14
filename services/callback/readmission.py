"""When a deferred delivery that waits in memory may go: as soon as its destination can take it.

A destination that is well takes as many as it has places for, before any that is due comes by itself. One
whose breaker lets a probe go gets one of them, so that its return is noticed though nobody else calls it.
"""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from services.callback.breakers import Breakers
from services.callback.limiter import OriginLimiter
from services.callback.parking import Parking
from services.callback.ports import WaitsFor

__all__ = ["Readmission"]

LOOK_S: Final = 0.002
AGAIN_S: Final = 0.01
"""Between two looks at places that were offered: those who were woken take some milliseconds to come."""

PROBE_AGAIN_MS: Final = 1_000


class Readmission:
    """Wakes those who wait for a destination. `now_ms` is the clock of the breakers."""

    def __init__(self, breakers: Breakers, limiter: OriginLimiter, now_ms: Callable[[], int]) -> None:
        self._breakers = breakers
        self._limiter = limiter
        self._now_ms = now_ms
        self._parking = Parking()
        self._looks: dict[str, asyncio.TimerHandle] = {}
        self._probes: dict[WaitsFor, asyncio.TimerHandle] = {}

    @contextmanager
    def parked(self, waits_for: WaitsFor, wake: Callable[[], None]) -> Iterator[None]:
        """While entered, `wake` is called, at most once, when that destination can take a delivery."""
        with self._parking.parked(waits_for, wake):
            self.changed(waits_for)
            yield

    def close(self) -> None:
        """Wake nobody any more."""
        for timer in (*self._looks.values(), *self._probes.values()):
            timer.cancel()
        self._looks.clear()
        self._probes.clear()

    def changed(self, waits_for: WaitsFor) -> None:
        """See whether anybody waits for that destination, and when it may take one."""
        if self._breakers.are_closed(*waits_for):
            self.offer(waits_for.origin)
        elif waits_for in self._parking:
            refusal = self._breakers.refusal(*waits_for, self._now_ms())
            self._probe_in(waits_for, 0 if refusal is None else refusal.until_ms - self._now_ms())

    def offer(self, origin: str) -> None:
        """Have those woken who wait for `origin`, as far as it has places for them."""
        if self._parking.has_any(origin) and origin not in self._looks:
            self._look_in(origin, max(LOOK_S, self._limiter.rate_wait_s(origin)))

    def _look_in(self, origin: str, wait_s: float) -> None:
        self._looks[origin] = asyncio.get_running_loop().call_later(wait_s, self._look, origin)

    def _look(self, origin: str) -> None:
        del self._looks[origin]
        places = 0 if self._limiter.rate_wait_s(origin) else self._limiter.places(origin)
        woken = 0
        while woken < places and self._parking.wake(origin, self._takes):
            woken += 1
        if 0 < woken == places:
            self._look_in(origin, max(AGAIN_S, self._limiter.rate_wait_s(origin)))

    def _takes(self, waits_for: WaitsFor) -> bool:
        return self._breakers.are_closed(*waits_for)

    def _probe_in(self, waits_for: WaitsFor, wait_ms: int) -> None:
        if waits_for not in self._probes:
            wait_s = max(wait_ms / 1000, LOOK_S)
            self._probes[waits_for] = asyncio.get_running_loop().call_later(wait_s, self._probe, waits_for)

    def _probe(self, waits_for: WaitsFor) -> None:
        del self._probes[waits_for]
        if waits_for not in self._parking:
            return
        refusal = self._breakers.refusal(*waits_for, self._now_ms())
        if refusal is None:
            self._parking.wake_one(waits_for)
        left_ms = 0 if refusal is None else refusal.until_ms - self._now_ms()
        self._probe_in(waits_for, max(left_ms, PROBE_AGAIN_MS))
