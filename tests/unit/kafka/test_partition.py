"""A partition goes on over gaps of any size, and takes no more bytes than its process may hold."""

import asyncio
from pathlib import Path

import pytest

from shared.kafka.offset_tracker import OffsetTracker
from shared.kafka.partition import ByteBudget
from shared.kafka.poison import PoisonTracker
from shared.kafka.records import Partition, Record
from tests.support.waiting import until
from tests.unit.kafka.support import MIB, Owner, journal, processor_of, record


@pytest.mark.parametrize("gap", [1, 2, 32, 63, 64, 65, 200, 1_000, 10_000])
async def test_records_behind_a_gap_start_at_once(gap: int) -> None:
    owner = Owner()
    processor = processor_of(owner=owner)
    processor.open(OffsetTracker(100))
    processor.accept([record(100 + gap + index) for index in range(3)])
    await asyncio.sleep(0)
    assert owner.handled == [100 + gap, 101 + gap, 102 + gap]
    processor.advance(103 + gap + 5)
    await asyncio.sleep(0)
    assert processor.commit_point().offset == 108 + gap, "what follows the last record is a gap, too"


@pytest.mark.parametrize("gap", [1, 65, 10_000])
async def test_a_blamed_record_that_left_the_log_holds_nobody_up(gap: int, tmp_path: Path) -> None:
    owner = Owner()
    processor = processor_of(owner=owner)
    with_blame = PoisonTracker({100: 2, 99 + gap: 1}, journal(tmp_path), Partition("t", 0))
    processor.open(OffsetTracker(100), with_blame)
    processor.accept([record(100 + gap)])
    await asyncio.sleep(0)
    assert owner.handled == [100 + gap]


async def test_a_gap_before_what_waits_moves_the_commit() -> None:
    """Also on a partition whose window is full and which is not fetched."""
    release = asyncio.Event()

    class Slow(Owner):
        async def handle(self, record: Record) -> None:
            if record.offset >= 600:
                await release.wait()

    processor = processor_of(owner=Slow(), window=1)
    processor.open(OffsetTracker(0))
    processor.accept([record(0), record(600), record(1_200)])
    await asyncio.sleep(0.01)
    processor.advance(1_201)
    assert processor.commit_point().offset == 600
    release.set()


def test_a_common_half_and_equal_shares_of_the_other() -> None:
    budget = ByteBudget(64 * MIB)
    budget.divide(4)
    first = processor_of(Partition("t", 0), budget=budget)
    second = processor_of(Partition("t", 1), budget=budget)
    first.open(OffsetTracker(0))
    second.open(OffsetTracker(0))

    def full() -> tuple[bool, bool]:
        return first.full, second.full

    first._count_bytes(31 * MIB)
    assert full() == (False, False), "nobody else needs the room"
    first._count_bytes(MIB)
    assert full() == (True, False), "its share is kept for the other one"
    second._count_bytes(8 * MIB)
    assert full() == (True, True)
    first._count_bytes(-32 * MIB)
    assert full() == (False, False)
    assert budget.total == 8 * MIB


async def test_bytes_are_given_back_however_work_ends() -> None:
    class Failing(Owner):
        async def handle(self, record: Record) -> None:
            if record.offset == 1:
                raise asyncio.CancelledError
            await asyncio.Event().wait()

    budget = ByteBudget(MIB)
    processor = processor_of(owner=Failing(), window=2, budget=budget)
    processor.open(OffsetTracker(0))
    processor.accept([record(offset, value=b"x" * 1_000) for offset in range(3)])
    assert budget.total == 3_000
    await asyncio.sleep(0)
    await asyncio.wait(processor.cancel())
    assert budget.total == 0


async def test_the_oldest_unfinished_record_is_known() -> None:
    release = asyncio.Event()

    class Slow(Owner):
        async def handle(self, record: Record) -> None:
            if record.offset == 1:
                await release.wait()

    processor = processor_of(owner=Slow())
    processor.open(OffsetTracker(0))

    def oldest_ms() -> int | None:
        return processor.oldest_ms

    assert oldest_ms() is None
    processor.accept([record(offset, timestamp_ms=1_000 + offset) for offset in range(3)])
    await until(lambda: oldest_ms() == 1_001)
    release.set()
    await until(lambda: oldest_ms() is None)
