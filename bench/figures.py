"""What every benchmark prints: percentiles over all samples, in a table that can be pasted."""

import math
from collections.abc import Iterable, Sequence

__all__ = ["Latencies", "print_table"]


class Latencies:
    """Samples in milliseconds."""

    def __init__(self, samples: Iterable[float] = ()) -> None:
        self._samples = list(samples)

    def __len__(self) -> int:
        return len(self._samples)

    def extend(self, samples: Iterable[float]) -> None:
        """Add samples."""
        self._samples.extend(samples)

    def percentile(self, percent: float) -> float:
        """The smallest sample that `percent` of all samples do not exceed (nearest rank)."""
        if not self._samples:
            return math.nan
        ordered = sorted(self._samples)
        return ordered[max(0, math.ceil(percent / 100 * len(ordered)) - 1)]

    def row(self) -> tuple[str, ...]:
        """Count, p50, p95, p99 and maximum as text."""
        return (f"{len(self):,}", *(f"{self.percentile(percent):.2f}" for percent in (50, 95, 99, 100)))


def print_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """A table in Markdown."""
    lines = [head, ["---", *("---:" for _ in head[1:])], *rows]
    for line in lines:
        print("| " + " | ".join(line) + " |")
