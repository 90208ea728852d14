"""A record that kills its process is found within a bound; its neighbours and the unlucky are not blamed."""

from hypothesis import given
from hypothesis import strategies as st

from shared.kafka.commit_note import CommitNote, decode_note, encode_note
from shared.kafka.offset_tracker import OffsetTracker
from shared.kafka.records import Record
from shared.kafka.suspicion import Probation, Suspicion


async def no_poison(record: Record, attempts: int) -> None:
    raise AssertionError("not called")


PROBATION = Probation(on_poison=no_poison)


def opened(committed: int, note: CommitNote, *, log_end: int = 1_000, own: bool = False) -> Suspicion:
    return Suspicion(PROBATION, note, committed=committed, log_end=log_end, own=own)


def test_an_orderly_end_leaves_no_suspects() -> None:
    suspicion = opened(5, CommitNote(hi=5))
    assert not suspicion.is_suspect(5)
    assert suspicion.note(OffsetTracker(5), 70, clean=False) == CommitNote(hi=70)


def test_the_first_death_is_taken_as_bad_luck_the_second_makes_suspects() -> None:
    first = opened(5, CommitNote(hi=20))
    assert not first.is_suspect(5)
    note = first.note(OffsetTracker(5), 30, clean=False)
    assert (note.deaths, note.suspect_until) == (1, 20)
    second = opened(5, note)
    assert second.is_suspect(5)
    assert second.is_suspect(29)
    assert not second.is_suspect(30)


def test_what_was_not_written_at_the_death_is_no_suspect() -> None:
    note = CommitNote(hi=500, deaths=1, suspect_until=8)
    suspicion = opened(5, note, log_end=12)
    assert suspicion.is_suspect(11)
    assert not suspicion.is_suspect(12)


def test_deaths_are_forgotten_once_the_suspects_are_behind() -> None:
    suspicion = opened(5, CommitNote(hi=20, deaths=1, suspect_until=20))
    assert suspicion.note(OffsetTracker(20), 30, clean=False) == CommitNote(hi=30)


def test_an_attempt_counts_from_its_commit_and_not_after_an_orderly_end() -> None:
    tracker = OffsetTracker(5)
    suspicion = opened(5, CommitNote(hi=20, deaths=2, suspect_until=20, attempts={5: 1}))
    suspicion.begin(5)
    assert tracker.start(5)
    assert suspicion.note(tracker, 6, clean=False).attempts == {5: 2}
    clean = suspicion.note(tracker, 6, clean=True)
    assert (clean.attempts, clean.hi) == ({5: 1}, 5)


def test_this_process_own_commit_tells_of_no_death() -> None:
    note = CommitNote(hi=6, deaths=2, suspect_until=20, attempts={5: 1})
    suspicion = opened(5, note, own=True)
    assert suspicion.attempts(5) == 0
    assert suspicion.note(OffsetTracker(5), 6, clean=False).deaths == 2


class Log:
    """A partition, its commit, and a process that dies of some offsets; suspects run alone."""

    def __init__(self, length: int, poison: set[int]) -> None:
        self.length = length
        self.poison = poison
        self.commit = (0, "")
        self.condemned: list[int] = []
        self.handled: list[int] = []
        self.deaths = 0

    def live(self) -> bool:
        """One life of the process; whether it got to the end."""
        committed, text = self.commit
        note = decode_note(committed, text)
        tracker = OffsetTracker(committed, note.done)
        suspicion = opened(committed, note, log_end=self.length)
        for offset in range(committed, self.length):
            suspect = suspicion.is_suspect(offset)
            if not tracker.start(offset):
                continue
            if suspicion.is_condemned(offset):
                self.condemned.append(offset)
            else:
                if suspect:
                    suspicion.begin(offset)
                self._save(tracker, suspicion, offset + 1 if suspect else offset + 64)
                if offset in self.poison:
                    self.deaths += 1
                    return False
                self.handled.append(offset)
            tracker.finish(offset)
            suspicion.finish(offset)
            self._save(tracker, suspicion, tracker.position if suspect else offset + 64)
        return True

    def _save(self, tracker: OffsetTracker, suspicion: Suspicion, hi: int) -> None:
        note = suspicion.note(tracker, hi, clean=False)
        self.commit = (tracker.committable, encode_note(tracker.committable, note))


@given(st.integers(1, 40), st.sets(st.integers(0, 39), max_size=4))
def test_deaths_are_bounded_and_only_the_guilty_are_condemned(length: int, poison: set[int]) -> None:
    log = Log(length, {offset for offset in poison if offset < length})
    while not log.live():
        assert log.deaths <= (PROBATION.after_deaths + PROBATION.solo_limit) * len(log.poison)
    assert log.condemned == sorted(log.poison)
    assert set(log.handled) == set(range(length)) - log.poison
