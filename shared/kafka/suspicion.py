"""Who killed the process: what a partition's owner knows of former owners' deaths. Pure.

A record may take its whole process down, and then the next one. Each commit says up to where records may be
in flight (`CommitNote.hi`), so an owner that finds a commit whose `hi` lies beyond its offset knows that the
former owner died, and which records may be to blame. The first death is taken as bad luck: the records run
again as usual, so that recovery costs nothing. After `after_deaths` of them with the same records in flight
each suspect runs alone in the process, its attempt committed before it starts: only a death during an
offset's own attempt counts against it, and `solo_limit` of them condemn it.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from shared.kafka.commit_note import CommitNote
from shared.kafka.offset_tracker import OffsetTracker
from shared.kafka.records import Record

__all__ = ["Probation", "Suspicion"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Probation:
    """How records that may kill their process are found out and ended.

    Attributes:
        on_poison: writes the outcome of a condemned record, given the number of its attempts; it returns when
            that is durable, and like the handler it is called again after an exception.
        after_deaths: deaths with the same records in flight before they run one at a time.
        solo_limit: deaths in attempts of its own that condemn a record.
        reserve: offsets of a partition that may be started between two commits, at least.
    """

    on_poison: Callable[[Record, int], Awaitable[None]]
    after_deaths: int = 2
    solo_limit: int = 3
    reserve: int = 64


class Suspicion:
    """The deaths of one partition's owners, and the attempts of its suspects.

    Args:
        probation: the limits.
        note: of the last commit.
        committed: the offset of the last commit.
        log_end: the partition's end: what was not written yet cannot have been in flight.
        own: whether this very process made the commit, which therefore tells of no death.
    """

    def __init__(
        self, probation: Probation, note: CommitNote, *, committed: int, log_end: int, own: bool
    ) -> None:
        died = note.hi > committed and not own
        self._probation = probation
        self._deaths = note.deaths + died
        self._until = max(note.suspect_until, min(note.hi, log_end) if died else 0)
        self._attempts = dict(note.attempts)
        self._running: int | None = None
        if own and note.hi - 1 in self._attempts:
            self.forgive(note.hi - 1)

    @property
    def reserve(self) -> int:
        """Offsets that may be started between two commits, at least."""
        return self._probation.reserve

    @property
    def alone(self) -> bool:
        """Whether a suspect is running."""
        return self._running is not None

    def is_suspect(self, offset: int) -> bool:
        """Whether `offset` has to run alone."""
        return offset < self._until and self._deaths >= self._probation.after_deaths

    def is_condemned(self, offset: int) -> bool:
        """Whether `offset` has had all its attempts."""
        return self._attempts.get(offset, 0) >= self._probation.solo_limit

    def attempts(self, offset: int) -> int:
        """How often `offset` was run alone."""
        return self._attempts.get(offset, 0)

    def begin(self, offset: int) -> None:
        """`offset` is about to run alone; the attempt counts once it is committed."""
        self._attempts[offset] = self._attempts.get(offset, 0) + 1
        self._running = offset

    def finish(self, offset: int) -> None:
        """`offset` has run alone to its end: it is innocent."""
        self._attempts.pop(offset, None)
        self._running = None

    def forgive(self, offset: int) -> None:
        """The attempt of `offset` was given up in good order and does not count."""
        self._attempts[offset] -= 1
        self._running = None

    def note(self, tracker: OffsetTracker, hi: int, *, clean: bool) -> CommitNote:
        """What to say with the next commit; `clean` when nothing is in flight that a death could blame."""
        committed = tracker.committable
        attempts = {offset: count for offset, count in self._attempts.items() if offset >= committed}
        if clean and self._running in attempts:
            attempts[self._running] -= 1
        over = committed >= self._until
        return CommitNote(
            hi=committed if clean else max(hi, committed),
            deaths=0 if over else self._deaths,
            suspect_until=0 if over else self._until,
            attempts={offset: count for offset, count in attempts.items() if count},
            done=tuple(tracker.done()),
        )
