"""Waiting between attempts at something that will heal: exponential, jittered, bounded."""

import random
from collections.abc import Iterator

__all__ = ["backoff_s"]


def backoff_s(first_s: float = 0.1, cap_s: float = 5.0) -> Iterator[float]:
    """Endless waits in seconds, doubling up to `cap_s`, each drawn from the upper half of its step."""
    step_s = first_s
    while True:
        yield step_s * random.uniform(0.5, 1.0)  # noqa: S311 - spreads load, hides no secret
        step_s = min(step_s * 2, cap_s)
