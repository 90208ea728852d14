"""Which offsets of a partition are finished, and how far its group may commit. Pure.

Records finish in any order. The group may commit the lowest unfinished offset; the offsets finished beyond it
travel in the commit's metadata, so that the next owner does not repeat them. An offset that is never fetched
(a transaction marker, an aborted or compacted record) needs no work: only records in flight hold the commit
back.
"""

import bisect
from collections.abc import Iterable

__all__ = ["OffsetRange", "OffsetTracker"]

OffsetRange = tuple[int, int]
"""First offset and count of consecutive offsets."""


class OffsetTracker:
    """Finished and unfinished offsets of a partition, from the committed offset on.

    Args:
        committed: the first offset that is not known to be finished.
        done: ranges that a former owner finished beyond it.
    """

    def __init__(self, committed: int, done: Iterable[OffsetRange] = ()) -> None:
        self._position = committed
        self._in_flight: dict[int, int] = {}
        self._inherited = _merged(each for each in done if sum(each) > committed)

    @property
    def position(self) -> int:
        """The next offset that has not been fetched."""
        return self._position

    @property
    def committable(self) -> int:
        """The lowest unfinished offset: the one that the group may commit."""
        return next(iter(self._in_flight), self._position)

    @property
    def oldest_ms(self) -> int | None:
        """Timestamp of the lowest offset in flight, in ms since the epoch; None when none is."""
        return next(iter(self._in_flight.values()), None)

    def start(self, offset: int, timestamp_ms: int = 0) -> bool:
        """Take `offset` into work; False when it is finished or in work already.

        Offsets come in ascending order, except for repeats of those fetched before.
        """
        if offset < self._position:
            return False
        self._position = offset + 1
        if self._inherited and self._is_inherited(offset):
            return False
        self._in_flight[offset] = timestamp_ms
        return True

    def finish(self, offset: int) -> None:
        """Count `offset` as finished."""
        del self._in_flight[offset]

    def advance(self, position: int) -> None:
        """Count every offset below `position` that was not fetched as absent from the log."""
        self._position = max(self._position, position)

    def done(self) -> list[OffsetRange]:
        """Ranges of finished offsets beyond `committable`, ascending and apart from each other."""
        ranges: list[OffsetRange] = []
        previous: int | None = None
        for offset in (*self._in_flight, self._position):
            if previous is not None and offset > previous + 1:
                ranges.append((previous + 1, offset - previous - 1))
            previous = offset
        ahead = [self._unseen(each) for each in self._inherited if sum(each) > self._position]
        return _merged([*ranges, *ahead])

    def _unseen(self, inherited: OffsetRange) -> OffsetRange:
        first = max(inherited[0], self._position)
        return first, sum(inherited) - first

    def _is_inherited(self, offset: int) -> bool:
        index = bisect.bisect_right(self._inherited, (offset, 2**63))
        if index == 0:
            return False
        first, count = self._inherited[index - 1]
        return offset < first + count


def _merged(ranges: Iterable[OffsetRange]) -> list[OffsetRange]:
    """The same offsets in ascending ranges that neither touch nor overlap."""
    merged: list[OffsetRange] = []
    for first, count in sorted(ranges):
        if merged and first <= sum(merged[-1]):
            start, length = merged[-1]
            merged[-1] = (start, max(length, first + count - start))
        else:
            merged.append((first, count))
    return merged
