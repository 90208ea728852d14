"""Records that take their process down: blamed by the crash journal, run one at a time, ended at a limit.

A death is blamed only on the records that a slot held, or that this process was decoding. The process that
comes back finds them in its crash journal and quarantines them: one of them runs at a time in the process,
and everything else starts at once beside it. Before such a record is held again, the number of this run is
committed and acknowledged, so that whichever instance owns the partition next goes on counting. A record is
poison once as many of its runs have ended with their process as the limit says: the service writes its
outcome and runs it no more.

A poison record causes as many deaths as the limit at most, and one more each time its partition moves: a
death of which only the journal of another instance knows is not counted. One whose mere decoding kills causes
two more, when the service decodes it for its outcome.

A run that its process survives is not counted, also when that process loses its place in the group before it
can take the count back: it remembers, and leaves the run out when the partition is its own again. Another
instance that owns the partition meanwhile counts it, once.
"""

from collections.abc import Mapping
from typing import Final

import structlog

from shared.kafka import metrics
from shared.kafka.crash_journal import CrashJournal
from shared.kafka.records import Partition, Record

__all__ = ["ATTEMPTS", "PoisonTracker"]

log = structlog.get_logger()

ATTEMPTS: Final = 5
"""Runs that end with the process before a record counts as poison: a long request that happens to be held at
four kills from outside still comes to its end."""


class PoisonTracker:
    """The blamed records of one partition, and how many runs each has had.

    Args:
        attempts: runs by offset, as the last commit counts them.
        journal: names the records that the last life of this instance held at its death.
        partition: which of them belong here.
        survived: by offset, a number of a run that this process survived, in whichever life of its client,
            and that no acknowledged commit has taken back yet. Shared by the trackers of the partition.
    """

    def __init__(
        self,
        attempts: Mapping[int, int],
        journal: CrashJournal,
        partition: Partition,
        survived: dict[int, int] | None = None,
    ) -> None:
        self._attempts = dict(attempts)
        self._running: set[int] = set()
        self._survived = {} if survived is None else survived
        self._take_back()
        self._journal = journal
        self._recovered: dict[int, int] = {}
        for entry, held in sorted(journal.recovered.items(), key=lambda each: each[1].attempt):
            if held.partition == partition:
                self.forget_entry(held.offset)
                self._recovered[held.offset] = entry

    def attempts(self, record: Record) -> int:
        """How many runs of `record` have ended with their process; 0 for a record without blame."""
        if record.offset in self._recovered:
            self._blame(record)
        return self._attempts.get(record.offset, 0)

    def _blame(self, record: Record) -> None:
        """Count the run that the journal names, unless the topic was made anew and this is another record."""
        held = self._journal.recovered[self._recovered[record.offset]]
        if held.timestamp_ms != record.timestamp_ms:
            self.forget_entry(record.offset)
        elif held.attempt > self._attempts.get(record.offset, 0):
            self._attempts[record.offset] = held.attempt
            metrics.BLAMED.labels(record.topic).inc()
            log.warning("record.blamed", record=record.position, deaths=held.attempt)

    def begin(self, offset: int) -> int:
        """Count a run of `offset`, which takes effect with the next commit; returns its number."""
        self._attempts[offset] += 1
        self._running.add(offset)
        return self._attempts[offset]

    def survive(self, offset: int) -> None:
        """Take the count of a run back: it has ended, and the process lives.

        The last commit may count it, and the next one be another owner's or another life's.
        """
        self._running.discard(offset)
        self._survived[offset] = self._attempts[offset]
        self._attempts[offset] -= 1

    def _take_back(self) -> None:
        """Leave survived runs out of the counts of a commit that has them in."""
        for offset in list(self._survived):
            if self._attempts.get(offset, 0) < self._survived[offset]:
                del self._survived[offset]
            else:
                self._survived[offset] = self._attempts[offset]
                self._attempts[offset] -= 1

    @property
    def unsettled(self) -> bool:
        """Whether the broker may count a run that this process survived."""
        return bool(self._survived)

    def acknowledge(self, committed: Mapping[int, int]) -> None:
        """The broker has a commit with these runs by offset: survived runs that it leaves out are settled."""
        for offset in [each for each, run in self._survived.items() if committed.get(each, 0) < run]:
            del self._survived[offset]

    def finish(self, offset: int) -> None:
        """Forget `offset`, which has come to its end."""
        self._attempts.pop(offset, None)
        self.forget_entry(offset)

    def to_commit(self, committed: int, *, clean: bool) -> dict[int, int]:
        """The runs by offset for a commit of `committed`.

        Args:
            committed: the offset to be committed; those below it are forgotten.
            clean: leave out the runs that go on, for an owner that gives the partition up in good order.
        """
        for offset in [each for each in self._recovered if each < committed]:
            self.forget_entry(offset)
        self._attempts = {offset: count for offset, count in self._attempts.items() if offset >= committed}
        discount = self._running if clean else frozenset()
        counted = {offset: count - (offset in discount) for offset, count in self._attempts.items()}
        return {offset: count for offset, count in counted.items() if count}

    def forget_entry(self, offset: int) -> None:
        """Drop the journal's entry of the last life, if there is one: it is not needed any more.

        Another tracker of the partition may have done so before, and a new record have taken its place.
        """
        entry = self._recovered.pop(offset, None)
        if entry is not None and entry in self._journal.recovered:
            self._journal.clear(entry)
