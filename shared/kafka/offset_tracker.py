"""Which offsets of one partition are finished, and how far the group may commit. Pure.

Records finish in any order. What may be committed is the lowest unfinished offset; what has finished beyond
it travels in the commit's metadata, so that the next owner does not repeat it. Offsets that are never seen
(transaction markers, compaction) are finished by definition: only what is in flight holds the commit back.
"""

import bisect
from collections.abc import Iterable

__all__ = ["OffsetTracker", "Run"]

Run = tuple[int, int]
"""First offset and count of consecutive finished offsets."""


class OffsetTracker:
    """Finished and unfinished offsets of a partition, from the committed offset on.

    Args:
        committed: the first offset that is not known to be finished.
        done: what a former owner finished beyond it.
    """

    def __init__(self, committed: int, done: Iterable[Run] = ()) -> None:
        self._position = committed
        self._in_flight: dict[int, None] = {}
        self._inherited = _merged(run for run in done if sum(run) > committed)

    @property
    def in_flight(self) -> int:
        """Number of offsets that were started and not finished."""
        return len(self._in_flight)

    @property
    def position(self) -> int:
        """The next offset that has not been seen."""
        return self._position

    @property
    def committable(self) -> int:
        """The lowest unfinished offset: what the group may commit."""
        return next(iter(self._in_flight), self._position)

    def start(self, offset: int) -> bool:
        """Take `offset` into work; False when it is finished or in work already.

        Offsets come in ascending order, but for repeats of what was seen.
        """
        if offset < self._position:
            return False
        self._position = offset + 1
        if self._inherited and self._is_inherited(offset):
            return False
        self._in_flight[offset] = None
        return True

    def finish(self, offset: int) -> None:
        """`offset` needs no more work."""
        del self._in_flight[offset]

    def advance(self, position: int) -> None:
        """Everything below `position` has been fetched; what was not seen there does not exist."""
        self._position = max(self._position, position)

    def done(self) -> list[Run]:
        """Runs of finished offsets beyond `committable`, ascending and apart from each other."""
        runs: list[Run] = []
        previous: int | None = None
        for offset in (*self._in_flight, self._position):
            if previous is not None and offset > previous + 1:
                runs.append((previous + 1, offset - previous - 1))
            previous = offset
        return _merged([*runs, *(self._unseen(run) for run in self._inherited if sum(run) > self._position)])

    def _unseen(self, run: Run) -> Run:
        first = max(run[0], self._position)
        return first, sum(run) - first

    def _is_inherited(self, offset: int) -> bool:
        index = bisect.bisect_right(self._inherited, (offset, 2**63))
        if index == 0:
            return False
        first, count = self._inherited[index - 1]
        return offset < first + count


def _merged(runs: Iterable[Run]) -> list[Run]:
    """The same offsets in ascending runs that neither touch nor overlap."""
    merged: list[Run] = []
    for first, count in sorted(runs):
        if merged and first <= sum(merged[-1]):
            start, length = merged[-1]
            merged[-1] = (start, max(length, first + count - start))
        else:
            merged.append((first, count))
    return merged
