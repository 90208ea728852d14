"""Spreading calls over time: a rate that is kept, and turns given out one after the other."""

from dataclasses import dataclass, replace
from typing import Final

__all__ = [
    "LONGEST_WAITS",
    "NO_PACE",
    "Pace",
    "most_waiting",
    "next_turn",
    "pace_ms",
    "reserve",
    "took",
]

SMOOTHING: Final = 0.2
UNKNOWN_CALL_MS: Final = 50.0
"""How long a call takes, as long as none was made."""

CLOSEST_MS: Final = 1.0
"""Turns are never closer: a crowd that comes back at once would cost more than it could deliver."""

FARTHEST_MS: Final = 60_000
"""So far turns are given out; beyond, the pace of today says nothing."""

PATIENCE: Final = 2
"""Who has waited for a span of time stays if at the pace of that span it is served within so many."""

LONGEST_WAITS: Final = PATIENCE + 2
"""So many spans one waits at most: the first, `PATIENCE` at its pace, and one more for a pace that falls."""


def reserve(free_ms: float, now_ms: float, per_second: float) -> tuple[float, float]:
    """The wait until a call may be made at this rate, and from when on the next one may, in ms.

    `free_ms` is that of the call before.
    """
    begin_ms = max(free_ms, now_ms)
    return begin_ms - now_ms, begin_ms + 1_000 / per_second


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """The pace of a destination: how long calls take, where any was made.

    `steady_ms` follows `call_ms` ten times more slowly: a few slow calls tell nothing of what is to come,
    unless they take a thousand times as long.
    """

    call_ms: float | None = None
    steady_ms: float = UNKNOWN_CALL_MS

    @property
    def known_ms(self) -> float:
        """How long a call takes, or is taken to take."""
        return UNKNOWN_CALL_MS if self.call_ms is None else self.call_ms


NO_PACE: Final = Pace()


def took(pace: Pace, call_ms: float) -> Pace:
    """The pace after another call."""
    known_ms = call_ms if pace.call_ms is None else pace.call_ms
    return replace(
        pace,
        call_ms=known_ms + SMOOTHING * (call_ms - known_ms),
        steady_ms=pace.steady_ms + SMOOTHING / 10 * (call_ms - pace.steady_ms),
    )


def next_turn(free_ms: float, earliest_ms: float, apart_ms: float, spread: float) -> tuple[int, float]:
    """When to come back, for one that cannot be taken now, and from when on the next one may, in ms.

    Turns are `apart_ms` apart; `free_ms` is that of the turn before. Where turns are given out too far ahead,
    `spread`, a number drawn from [0, 1), decides instead.
    """
    turn_ms = max(free_ms, earliest_ms)
    if turn_ms - earliest_ms > FARTHEST_MS:
        return int(earliest_ms + FARTHEST_MS * (1 + spread) / 2), free_ms
    return int(turn_ms), turn_ms + max(CLOSEST_MS, apart_ms)


def most_waiting(pace: Pace, concurrency: int, wait_s: float) -> int:
    """How many may wait if none is to wait longer than `PATIENCE` times `wait_s`; `concurrency` at least."""
    return max(concurrency, int(concurrency * PATIENCE * wait_s * 1_000 / max(pace.steady_ms, CLOSEST_MS)))


def pace_ms(pace: Pace, concurrency: int) -> float:
    """The time from one call's end to the next one's, with `concurrency` at a time."""
    return pace.known_ms / concurrency
