"""Blamed records run one at a time in a process, and a run that the process survives never counts."""

import asyncio
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from shared.kafka.poison import ATTEMPTS, PoisonTracker
from shared.kafka.quarantine import ProcessEndsError, Quarantine
from shared.kafka.records import Partition, Record
from tests.unit.kafka.support import after_a_death, record

PARTITION = Partition("t", 0)
IDENTITY = "compute-0\0t.compute\0cluster"
"""Of the quarantine that `opened` opens."""


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
