"""Ownership counts as proven by commits that were sent lately, and by nothing else."""

import asyncio
import time
from collections.abc import Mapping

import pytest
from aiokafka.errors import CommitFailedError

from shared.kafka.committer import Committer
from shared.kafka.offset_tracker import OffsetTracker
from shared.kafka.partition_run import PartitionRun
from shared.kafka.records import Partition, Record
from tests.support.waiting import until

SESSION_S = 30.0


class Owner:
    """A consumer of which nothing is asked."""

    async def handle(self, record: Record) -> None:
        """Nothing to do."""

    def on_room(self, run: PartitionRun) -> None:
        """Nothing to do."""

    def on_exhausted(self) -> None:
        """Nothing to do."""

    def on_suspect(self) -> None:
        """Nothing to do."""

    def may_start(self) -> bool:
        return True

    def on_bug(self, error: BaseException) -> None:
        raise error


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
    run = PartitionRun(Partition("t", 0), Owner(), window=10, window_bytes=10)
    run.open(OffsetTracker(0))
    return Committer(broker.commit, lambda: [run], session_s=SESSION_S)


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
