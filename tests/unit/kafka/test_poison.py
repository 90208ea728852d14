"""A record that kills its process ends within a bound; its neighbours and the unlucky are not blamed."""

import asyncio
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.kafka.commit_metadata import CommitMetadata, decode_metadata, encode_metadata
from shared.kafka.crash_journal import CrashJournal
from shared.kafka.offset_tracker import OffsetTracker
from shared.kafka.poison import ATTEMPTS, PoisonTracker, ProcessEndsError, Quarantine
from shared.kafka.records import Partition, Record
from tests.unit.kafka.support import journal, record

PARTITION = Partition("t", 0)


IDENTITY = "compute-0\0t.compute\0cluster"
"""Of the quarantine that `opened` opens."""


def after_a_death(directory: Path, *held: tuple[Record, int], identity: str = "i") -> CrashJournal:
    """The journal of a life that follows one which held these records in their runs of that number."""
    former = journal(directory, identity)
    for each, attempt in held:
        former.write(each, attempt)
    former.close()
    return journal(directory, identity)


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


def test_entries_of_partitions_that_never_come_back_are_dropped_once_they_have_ended(tmp_path: Path) -> None:
    """Whoever owns them now has committed beyond; what is not committed may still have to be blamed."""
    held = [(record(5), 1), (record(9), 1), (record(7, number=1), 1)]
    after_a_death(tmp_path, *held, identity=IDENTITY).close()
    (tmp_path / "test.journal").rename(tmp_path / "t.compute-compute-0.journal")
    quarantine = opened(tmp_path)
    other = Partition("t", 1)
    assert quarantine.recovered() == {PARTITION, other}
    quarantine.prune({PARTITION: 9})
    assert quarantine.tracker(PARTITION, {}).attempts(record(5)) == 0
    assert quarantine.tracker(PARTITION, {}).attempts(record(9)) == 1
    assert quarantine.tracker(other, {}).attempts(record(7, number=1)) == 1
    quarantine.close()


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


@dataclass
class Service:
    """What a service does with a record, and the commits that it waits for."""

    quarantine: Quarantine
    commits: list[dict[int, int]] = field(default_factory=list)
    handled: list[int] = field(default_factory=list)
    poisoned: list[tuple[int, int]] = field(default_factory=list)
    at_once: int = 0
    most_at_once: int = 0

    async def handle(self, each: Record) -> None:
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        async with self.quarantine.hold(each):
            await asyncio.sleep(0.01)
        self.at_once -= 1
        self.handled.append(each.offset)

    async def on_poison(self, each: Record, attempts: int) -> None:
        self.poisoned.append((each.offset, attempts))

    async def run(self, each: Record, tracker: PoisonTracker) -> None:
        async def commit() -> None:
            self.commits.append(tracker.to_commit(0, clean=False))

        await self.quarantine.run(each, tracker, handle=self.handle, on_poison=self.on_poison, commit=commit)


def opened(directory: Path) -> Quarantine:
    quarantine = Quarantine(directory)
    quarantine.open("compute-0", "t.compute", "cluster")
    return quarantine


async def test_blamed_records_run_one_at_a_time_with_their_number_committed_first(tmp_path: Path) -> None:
    service = Service(opened(tmp_path))
    tracker = service.quarantine.tracker(PARTITION, {5: 1, 6: 2})
    await asyncio.gather(*(service.run(record(offset), tracker) for offset in (5, 6)))
    assert service.handled == [5, 6]
    assert service.most_at_once == 1
    assert service.commits == [{5: 2, 6: 2}, {6: 3}]
    assert service.quarantine.journal is not None
    service.quarantine.close()


async def test_at_the_limit_a_record_is_ended_and_not_run(tmp_path: Path) -> None:
    service = Service(opened(tmp_path))
    tracker = service.quarantine.tracker(PARTITION, {5: ATTEMPTS})
    await service.run(record(5), tracker)
    assert (service.handled, service.poisoned) == ([], [(5, ATTEMPTS)])
    assert tracker.attempts(record(5)) == 0
    service.quarantine.close()


async def test_a_cancelled_commit_counts_no_run(tmp_path: Path) -> None:
    service = Service(opened(tmp_path))
    tracker = service.quarantine.tracker(PARTITION, {5: 1})

    async def commit() -> None:
        await asyncio.Event().wait()

    running = asyncio.create_task(
        service.quarantine.run(
            record(5), tracker, handle=service.handle, on_poison=service.on_poison, commit=commit
        )
    )
    await asyncio.sleep(0)
    running.cancel()
    await asyncio.wait({running})
    assert tracker.to_commit(0, clean=False) == {5: 1}
    service.quarantine.close()


async def test_an_error_that_ends_the_process_leaves_the_record_to_blame(tmp_path: Path) -> None:
    """The slots' server was killed: the operation may have done it, and this process ends next."""
    quarantine = opened(tmp_path)
    with pytest.raises(ProcessEndsError):
        async with quarantine.hold(record(5)):
            raise ProcessEndsError("the slots are gone")
    with pytest.raises(OSError, match="away"):
        async with quarantine.hold(record(6)):
            raise OSError("the broker is away")
    quarantine.close()
    heir = opened(tmp_path)
    tracker = heir.tracker(PARTITION, {})
    assert (tracker.attempts(record(5)), tracker.attempts(record(6))) == (1, 0)
    heir.close()


async def survive_a_run(quarantine: Quarantine, committed: dict[int, int]) -> dict[int, int]:
    """A member's life that owns a blamed record, and is thrown out of the group while it runs.

    Returns what the broker has then: the commit that takes the run back does not reach it.
    """
    tracker = quarantine.tracker(PARTITION, committed)
    service, saved = Service(quarantine), dict(committed)

    async def commit() -> None:
        saved.clear()
        saved.update(tracker.to_commit(0, clean=False))
        tracker.acknowledge(saved)

    async def run_and_be_cancelled(each: Record) -> None:
        async with quarantine.hold(each):
            raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await quarantine.run(
            record(5), tracker, handle=run_and_be_cancelled, on_poison=service.on_poison, commit=commit
        )
    assert service.poisoned == []
    return saved


async def test_runs_survived_in_outages_never_count(tmp_path: Path) -> None:
    """Each time the member is thrown out before it has taken the count of its run back."""
    quarantine = opened(tmp_path)
    committed = {5: 1}
    for _ in range(ATTEMPTS + 1):
        committed = await survive_a_run(quarantine, committed)
    heir = quarantine.tracker(PARTITION, committed)
    assert heir.attempts(record(5)) == 1
    heir.acknowledge(heir.to_commit(0, clean=False))
    settled = quarantine.tracker(PARTITION, {5: 2})
    assert settled.attempts(record(5)) == 2, "a death elsewhere, after the count was taken back"
    quarantine.close()


async def test_a_survived_run_does_not_excuse_deaths_elsewhere(tmp_path: Path) -> None:
    quarantine = opened(tmp_path)
    committed = await survive_a_run(quarantine, {5: 1})
    tracker = quarantine.tracker(PARTITION, {5: committed[5] + 2})
    assert tracker.attempts(record(5)) == 3, "two deaths in another process"
    quarantine.close()


async def test_a_count_that_the_broker_never_had_is_not_taken_back_from_it(tmp_path: Path) -> None:
    quarantine = opened(tmp_path)
    tracker = quarantine.tracker(PARTITION, {5: 1})
    tracker.begin(5)
    tracker.survive(5)
    assert quarantine.tracker(PARTITION, {5: 1}).attempts(record(5)) == 1
    assert quarantine.tracker(PARTITION, {5: 2}).attempts(record(5)) == 2
    quarantine.close()


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
