"""Which offsets of one partition are finished, and how far the group may commit. Pure.

Records finish in any order. What may be committed is the lowest unfinished offset; what has finished beyond
it travels in the commit's metadata, so that the next owner does not repeat it. Offsets that are never seen
(transaction markers, compaction) are finished by definition: only what is in flight holds the commit back.
"""

import bisect
from collections.abc import Iterable
from typing import Final

__all__ = ["MAX_METADATA", "OffsetTracker", "Run", "decode_done", "encode_done"]

Run = tuple[int, int]
"""First offset and count of consecutive finished offsets."""

MAX_METADATA: Final = 4_000
"""Characters of metadata that are used of the 4,096 that a broker takes by default."""

_PREFIX: Final = "1;"


class OffsetTracker:
    """Finished and unfinished offsets of a partition, from the committed offset on.

    Args:
        committed: the first offset that is not known to be finished.
        done: what a former owner finished beyond it.
    """

    def __init__(self, committed: int, done: Iterable[Run] = ()) -> None:
        self._position = committed
        self._in_flight: dict[int, None] = {}
        self._inherited = sorted(run for run in done if sum(run) > committed)

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
        if self._is_inherited(offset):
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
        """Runs of finished offsets beyond `committable`, ascending."""
        runs: list[Run] = []
        previous: int | None = None
        for offset in (*self._in_flight, self._position):
            if previous is not None and offset > previous + 1:
                runs.append((previous + 1, offset - previous - 1))
            previous = offset
        return runs + [self._unseen(run) for run in self._inherited if sum(run) > self._position]

    def _unseen(self, run: Run) -> Run:
        first = max(run[0], self._position)
        return first, sum(run) - first

    def _is_inherited(self, offset: int) -> bool:
        index = bisect.bisect_right(self._inherited, (offset, 2**63))
        if index == 0:
            return False
        first, count = self._inherited[index - 1]
        return offset < first + count


def encode_done(committed: int, runs: Iterable[Run], room: int = MAX_METADATA) -> str:
    """`runs` as text of at most `room` characters; the furthest are left out when they do not fit."""
    parts: list[str] = []
    room -= len(_PREFIX)
    previous = committed
    for first, count in runs:
        part = f"{first - previous:x}+{count:x}"
        room -= len(part) + 1
        if room < 0:
            break
        parts.append(part)
        previous = first + count
    return _PREFIX + ",".join(parts)


def decode_done(committed: int, text: str) -> list[Run]:
    """The runs in a commit's metadata; none when it is not ours."""
    if not text.startswith(_PREFIX):
        return []
    runs: list[Run] = []
    previous = committed
    for part in filter(None, text.removeprefix(_PREFIX).split(",")):
        gap, _, count = part.partition("+")
        run = (previous + int(gap, 16), int(count, 16))
        runs.append(run)
        previous = sum(run)
    return runs
