"""A record that kills its process ends within a bound; its neighbours and the unlucky are not blamed."""

from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.kafka.commit_metadata import CommitMetadata, decode_metadata, encode_metadata
from shared.kafka.crash_journal import CrashJournal
from shared.kafka.offset_tracker import OffsetTracker
from shared.kafka.poison import ATTEMPTS, PoisonTracker
from shared.kafka.records import Partition, Record
from tests.unit.kafka.support import after_a_death, journal, record

PARTITION = Partition("t", 0)


def test_only_held_records_are_blamed(tmp_path: Path) -> None:
    tracker = PoisonTracker({}, after_a_death(tmp_path, (record(5), 1)), PARTITION)
    assert [tracker.attempts(record(offset)) for offset in (4, 5, 6)] == [0, 1, 0]
    assert tracker.to_commit(0, clean=False) == {5: 1}


def test_a_record_of_a_topic_made_anew_is_not_blamed(tmp_path: Path) -> None:
    tracker = PoisonTracker({}, after_a_death(tmp_path, (record(5, timestamp_ms=1), 1)), PARTITION)
    assert tracker.attempts(record(5, timestamp_ms=2)) == 0


def test_entries_below_the_commit_and_of_other_partitions_are_ignored(tmp_path: Path) -> None:
    crashed = after_a_death(tmp_path, (record(5), 1), (record(9, number=1), 1))
    tracker = PoisonTracker({}, crashed, PARTITION)
    assert tracker.to_commit(6, clean=False) == {}
    assert [held.offset for held in crashed.recovered.values()] == [9]


def test_an_entry_that_two_trackers_know_is_dropped_once(tmp_path: Path) -> None:
    """Work of a former life that ended late must not let go of a record that took the entry since."""
    crashed = after_a_death(tmp_path, (record(5), 1))
    former, present = (PoisonTracker({}, crashed, PARTITION) for _ in range(2))
    present.finish(5)
    entry = crashed.write(record(6), 1)
    former.finish(5)
    assert crashed.write(record(7), 1) != entry


def test_the_higher_count_of_commit_and_journal_counts(tmp_path: Path) -> None:
    tracker = PoisonTracker({5: 2, 6: 1}, after_a_death(tmp_path, (record(5), 1), (record(6), 2)), PARTITION)
    assert (tracker.attempts(record(5)), tracker.attempts(record(6))) == (2, 2)


def test_a_run_that_its_process_survives_does_not_count(tmp_path: Path) -> None:
    tracker = PoisonTracker({5: 1}, journal(tmp_path), PARTITION)
    assert tracker.begin(5) == 2
    assert tracker.to_commit(5, clean=False) == {5: 2}
    assert tracker.to_commit(5, clean=True) == {5: 1}, "an owner that gives it up in good order"
    tracker.survive(5)
    assert tracker.to_commit(5, clean=False) == {5: 1}
    tracker.finish(5)
    assert tracker.to_commit(5, clean=False) == {}


class Machine:
    """A log, its commit, and instances with a journal each, which die of some records."""

    def __init__(self, directory: Path, length: int, poison: set[int]) -> None:
        self.directory = directory
        self.length = length
        self.poison = poison
        self.commit = (0, "")
        self.ended: list[int] = []
        self.handled: list[int] = []
        self.deaths: list[int] = []

    def live(self, instance: str, *, slots: int = 3) -> bool:
        """One life of an instance that owns the log; whether it got to the end.

        Blamed records run one at a time, beside as many others as there are slots.
        """
        with closing(journal_of(self.directory, instance)) as file:
            offset, text = self.commit
            metadata = decode_metadata(offset, text)
            life = Life(
                file, OffsetTracker(offset, metadata.done), PoisonTracker(metadata.attempts, file, PARTITION)
            )
            for each in range(offset, self.length):
                if life.tracker.start(each) and not self._take(life, record(each), slots):
                    return False
            for each in list(life.held):
                self._leave(life, each)
            return True

    def _take(self, life: "Life", each: Record, slots: int) -> bool:
        """Start a record and make room for the next; False when it kills."""
        attempts = life.poison.attempts(each)
        if attempts >= ATTEMPTS:
            self.ended.append(each.offset)
            self._finish(life, each.offset)
            return True
        number = life.poison.begin(each.offset) if attempts else 1
        self._save(life)
        life.held[each.offset] = life.file.write(each, number)
        life.poison.forget_entry(each.offset)
        if each.offset in self.poison:
            self.deaths.append(each.offset)
            return False
        if attempts:
            self._leave(life, each.offset)
        elif len(life.held) >= slots:
            self._leave(life, next(iter(life.held)))
        return True

    def _leave(self, life: "Life", offset: int) -> None:
        entry = life.held.pop(offset)
        if entry is not None:
            life.file.clear(entry)
        self.handled.append(offset)
        self._finish(life, offset)

    def _finish(self, life: "Life", offset: int) -> None:
        life.tracker.finish(offset)
        life.poison.finish(offset)
        self._save(life)

    def _save(self, life: "Life") -> None:
        committable = life.tracker.committable
        attempts = life.poison.to_commit(committable, clean=False)
        metadata = CommitMetadata(attempts=attempts, done=tuple(life.tracker.done()))
        self.commit = (committable, encode_metadata(committable, metadata))


@dataclass
class Life:
    """What an instance knows while it lives."""

    file: CrashJournal
    tracker: OffsetTracker
    poison: PoisonTracker
    held: dict[int, int | None] = field(default_factory=dict)


def journal_of(directory: Path, instance: str) -> CrashJournal:
    return CrashJournal(directory / f"{instance}.journal", instance)


@settings(deadline=None)
@given(
    length=st.integers(1, 30),
    poison=st.sets(st.integers(0, 29), max_size=3),
    moves=st.lists(st.booleans(), max_size=12),
)
def test_deaths_are_bounded_by_limit_and_moves_and_only_the_guilty_end(
    tmp_path_factory: pytest.TempPathFactory, length: int, poison: set[int], moves: list[bool]
) -> None:
    guilty = {offset for offset in poison if offset < length}
    machine = Machine(tmp_path_factory.mktemp("machine"), length, guilty)
    instance, moved = 0, 0
    plan = iter(moves)
    while not machine.live(f"compute-{instance}"):
        if next(plan, False):
            instance, moved = 1 - instance, moved + 1
        for offset in guilty:
            assert machine.deaths.count(offset) <= ATTEMPTS + moved
    assert machine.ended == sorted(guilty)
    assert set(machine.handled) == set(range(length)) - guilty
