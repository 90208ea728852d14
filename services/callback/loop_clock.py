"""Time as the event loop lives it: while the process is stopped, or starved, nobody else is slow."""

import asyncio
import time
from typing import Final

from services.callback import http_metrics

__all__ = ["LoopClock"]

TICK_S: Final = 0.1
STALL_S: Final = 0.3
"""A gap between two ticks counts as no more than this."""

SMOOTHING: Final = 0.05


class LoopClock:
    """Seconds since any point, without those in which the event loop did not run.

    After a pause of the whole process, calls under way look as if their receivers had hung for as long. Ages
    taken by this clock do not. While it does not run, and when the loop ticks in time, it is the monotonic
    clock.
    """

    def __init__(self) -> None:
        self._lost_s = 0.0
        self._late_s = 0.0
        self._ticked_s: float | None = None

    def now_s(self) -> float:
        """The time now."""
        now_s = time.monotonic()
        return now_s - self._lost_s - self._stalled_s(now_s)

    async def run(self) -> None:
        """Tick until cancelled."""
        self._ticked_s = time.monotonic()
        try:
            while True:
                await asyncio.sleep(TICK_S)
                self._tick(time.monotonic(), self._ticked_s)
        finally:
            self._lost_s += self._stalled_s(time.monotonic())
            self._ticked_s = None
            self._late_s = 0.0

    def _tick(self, now_s: float, before_s: float) -> None:
        self._lost_s += self._stalled_s(now_s)
        self._ticked_s = now_s
        late_s = min(now_s - before_s - TICK_S, TICK_S)
        self._late_s += SMOOTHING * (late_s - self._late_s)
        http_metrics.LOOP_LATE_SECONDS.set(self._late_s)

    def _stalled_s(self, now_s: float) -> float:
        return 0.0 if self._ticked_s is None else max(0.0, now_s - self._ticked_s - STALL_S)
