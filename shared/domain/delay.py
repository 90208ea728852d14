"""How a fixed set of delays holds any wait: which tier comes next, and what to do with a waiting record.

A tier delays everything in it by the same time from the append, so it stays first in, first out however
long it grows. What is due later than its tier can hold moves on to another one; the last second is waited
out in memory. So no retry is early, no long wait holds up a short one, and memory stays flat.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

__all__ = ["LAST_WAIT_MS", "Due", "Hop", "Step", "WaitUntil", "next_step", "parse_schedule", "pick_tier"]

LAST_WAIT_MS: Final = 1_000
"""What is left of a wait when memory takes it over from the tiers."""

_DELAY: Final = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_UNIT_MS: Final = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}


@dataclass(frozen=True, slots=True)
class Due:
    """It is time."""


@dataclass(frozen=True, slots=True)
class WaitUntil:
    """Look again at `at_ms`."""

    at_ms: int


@dataclass(frozen=True, slots=True)
class Hop:
    """The tier has done its part; `remainder_ms` are left for another one."""

    remainder_ms: int


Step = Due | WaitUntil | Hop


def next_step(*, not_before_ms: int, appended_ms: int, delay_ms: int, now_ms: int) -> Step:
    """What to do now with a record that was appended to a tier of `delay_ms`."""
    remainder_ms = not_before_ms - now_ms
    if remainder_ms <= 0:
        return Due()
    if remainder_ms <= LAST_WAIT_MS:
        return WaitUntil(not_before_ms)
    tier_ends_ms = appended_ms + delay_ms
    if now_ms < tier_ends_ms:
        return WaitUntil(min(tier_ends_ms, not_before_ms))
    return Hop(remainder_ms)


def pick_tier(delays_ms: Iterable[int], remainder_ms: int) -> int:
    """The longest of the tiers' delays that is no longer than `remainder_ms`, or the shortest of all."""
    ordered = sorted(delays_ms)
    return max((delay_ms for delay_ms in ordered if delay_ms <= remainder_ms), default=ordered[0])


def parse_schedule(text: str) -> Sequence[int]:
    """Delays in ms of a text such as `1s,5s,2m`; an empty one holds none.

    Raises:
        ValueError: a part is not a positive number with one of the units ms, s, m, h, d.
    """
    return tuple(_parse_delay(part.strip()) for part in text.split(",")) if text.strip() else ()


def _parse_delay(text: str) -> int:
    found = _DELAY.fullmatch(text)
    delay_ms = round(float(found[1]) * _UNIT_MS[found[2]]) if found else 0
    if delay_ms <= 0:
        raise ValueError(f"{text!r} is no delay: write a positive number and ms, s, m, h or d, such as 30s")
    return delay_ms
