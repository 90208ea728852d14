"""Ownership counts as proven by commits that were sent lately, and by nothing else."""

import asyncio
import time
from collections.abc import Mapping
from pathlib import Path

import pytest
from aiokafka.errors import CommitFailedError, OffsetMetadataTooLargeError

from shared.kafka.committer import Committer
from shared.kafka.offset_tracker import OffsetTracker
from shared.kafka.poison import PoisonTracker
from shared.kafka.records import Partition
from tests.support.waiting import until
from tests.unit.kafka.support import journal, processor_of

SESSION_S = 30.0


class Broker:
    """Takes commits, or does not; its clock can be set forward."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.commits = 0
        self.refuses = False
        self.slept_s = 0.0
        clock = time.clock_gettime
        monkeypatch.setattr("shared.kafka.committer.time.clock_gettime", lambda of: clock(of) + self.slept_s)

    async def commit(self, _: Mapping[Partition, tuple[int, str]]) -> None:
        self.commits += 1
        if self.refuses:
            raise CommitFailedError("no longer a member")


def _committer(broker: Broker) -> Committer:
    processor = processor_of()
    processor.open(OffsetTracker(0))
    return Committer(broker.commit, lambda: [processor], session_s=SESSION_S)


async def test_ownership_is_proven_by_a_commit_and_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    broker = Broker(monkeypatch)
    committer = _committer(broker)
    assert not committer.is_proven()
    await asyncio.gather(*(committer.prove() for _ in range(20)))
    await committer.prove()
    assert broker.commits == 1
    assert committer.is_proven()


async def test_after_a_long_stop_it_is_proven_anew_before_anything_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    broker = Broker(monkeypatch)
    committer = _committer(broker)
    await committer.prove()
    broker.slept_s += SESSION_S
    assert not committer.is_proven()
    await committer.prove()
    assert broker.commits == 2


async def test_a_member_that_lost_its_place_waits_in_vain(monkeypatch: pytest.MonkeyPatch) -> None:
    broker = Broker(monkeypatch)
    committer = _committer(broker)
    broker.refuses = True
    proving = [asyncio.create_task(committer.prove()) for _ in range(5)]
    await until(lambda: broker.commits >= 3)
    assert not any(task.done() for task in proving)
    broker.refuses = False
    await asyncio.gather(*proving)
    assert committer.is_proven()


async def test_a_broker_that_takes_less_metadata_gets_less() -> None:
    """Else it would refuse every commit as long as the ranges are many."""
    processor = processor_of()
    tracker = OffsetTracker(0)
    for offset in range(2_000):
        tracker.start(offset)
    for offset in range(1, 2_000, 2):
        tracker.finish(offset)
    processor.open(tracker)
    sizes: list[int] = []

    async def commit(offsets: Mapping[Partition, tuple[int, str]]) -> None:
        (metadata,) = (each[1] for each in offsets.values())
        sizes.append(len(metadata))
        if len(metadata) > 500:
            raise OffsetMetadataTooLargeError

    committer = Committer(commit, lambda: [processor], session_s=SESSION_S)
    while not await committer.commit([processor]):
        assert len(sizes) < 10
    assert 100 < sizes[-1] <= 500


async def test_a_survived_run_is_remembered_until_its_commit_is_acknowledged(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    broker, survived = Broker(monkeypatch), {5: 2}
    processor = processor_of()
    processor.open(OffsetTracker(0), PoisonTracker({5: 2}, journal(tmp_path), Partition("t", 0), survived))
    committer = Committer(broker.commit, lambda: [processor], session_s=SESSION_S)
    broker.refuses = True
    assert not await committer.commit([processor], clean=True)
    assert survived == {5: 2}
    broker.refuses = False
    assert await committer.commit([processor])
    assert survived == {}
