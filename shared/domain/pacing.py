"""Spreading calls over time: a rate that is kept, and turns given out at the pace of a destination."""

from dataclasses import dataclass, replace
from typing import Final

__all__ = ["NO_TURNS", "Turns", "next_turn", "reserve", "took"]

SMOOTHING: Final = 0.2
CLOSEST_MS: Final = 1.0
"""Turns are never closer: a crowd that comes back at once would cost more than it could deliver."""

FARTHEST_MS: Final = 60_000
"""So far turns are given out; beyond, the pace of today says nothing."""


def reserve(free_ms: float, now_ms: float, per_second: float) -> tuple[float, float]:
    """The wait until a call may be made at this rate, and from when on the next one may, in ms.

    `free_ms` is that of the call before.
    """
    begin_ms = max(free_ms, now_ms)
    return begin_ms - now_ms, begin_ms + 1_000 / per_second


@dataclass(frozen=True, slots=True, kw_only=True)
class Turns:
    """The pace of a destination: how long calls take, and the turn that was given out last."""

    call_ms: float = 50.0
    last_ms: float = 0.0


NO_TURNS: Final = Turns()


def took(turns: Turns, call_ms: float) -> Turns:
    """The pace after another call."""
    return replace(turns, call_ms=turns.call_ms + SMOOTHING * (call_ms - turns.call_ms))


def next_turn(turns: Turns, earliest_ms: float, concurrency: int, spread: float) -> tuple[int, Turns]:
    """When to come back, for one that cannot be taken now: behind all who were sent away before.

    Where turns are given out too far ahead, `spread`, a number drawn from [0, 1), decides instead.
    """
    last_ms = max(turns.last_ms, earliest_ms)
    if last_ms - earliest_ms > FARTHEST_MS:
        return int(earliest_ms + FARTHEST_MS * (1 + spread) / 2), turns
    return int(last_ms), replace(turns, last_ms=last_ms + max(CLOSEST_MS, turns.call_ms / concurrency))
