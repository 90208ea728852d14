"""Spreading calls over time: a rate that is kept, and turns to come back that are given out one by one."""

from collections.abc import Iterable, Mapping
from typing import Final

from shared.domain.delay import pick_tier

__all__ = ["RETURN_MS", "next_return", "reserve"]

RETURN_MS: Final = 25.0
"""Between two of a destination that come back by the same delay. Each that comes back in vain is appended
once more, so this bounds the cost of a backlog: 40 appends a second for each delay, however long it lasts."""

AT_ONCE: Final = 0.25
"""So much of a delay's turns may be given out at once, which lets a short backlog come back soon."""

LONGEST_ASKED_MS: Final = 120_000
"""Longer delays are for those who find no turn in a shorter one."""


def reserve(free_ms: float, now_ms: float, per_second: float) -> tuple[float, float]:
    """The wait until a call may be made at this rate, and from when on the next one may, in ms.

    `free_ms` is that of the call before.
    """
    begin_ms = max(free_ms, now_ms)
    return begin_ms - now_ms, begin_ms + 1_000 / per_second


def next_return(
    free_ms: Mapping[int, float], delays_ms: Iterable[int], wait_ms: int, now_ms: float
) -> tuple[int, float]:
    """By which of `delays_ms` one comes back that should not before `wait_ms`, and when that is free again.

    It is the longest that is no longer than `wait_ms`, or the next one after it that has turns left. The
    longest of all has turns for everybody. `free_ms` tells of each delay when it is free again.
    """
    ordered = sorted(delays_ms)
    shortest_ms = pick_tier(ordered, min(wait_ms, LONGEST_ASKED_MS))
    for delay_ms in ordered:
        turn_ms = max(free_ms.get(delay_ms, 0.0), now_ms)
        has_turn = turn_ms - now_ms <= delay_ms * AT_ONCE or delay_ms == ordered[-1]
        if delay_ms >= shortest_ms and has_turn:
            return delay_ms, turn_ms + RETURN_MS
    raise AssertionError("the longest delay has turns for everybody")
