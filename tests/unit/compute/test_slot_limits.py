"""What a task takes is bounded, with all that it forked; what it prints does not slow it down."""

import os
import time
from pathlib import Path
from typing import Final

import pytest

from services.compute.slot_pool import SlotPool
from shared.domain.requests import FailureCode
from shared.domain.types import Mode
from tests.support.waiting import until
from tests.unit.compute.support import completed, failed, gone, hazard, nap, noted_pids, task_of

MIB: Final = 1024 * 1024


@pytest.mark.parametrize(
    "kind", ["eat_memory_in_children", "hold_shared_memory", "fill_the_directory", "make_many_files"]
)
async def test_memory_is_bounded_in_all_processes_and_files_together(
    pool: SlotPool, kind: str, tmp_path: Path
) -> None:
    note = tmp_path / "pids"
    note.touch()
    failure = failed(await hazard(pool, kind, note=str(note))).failure
    assert (failure.code, failure.signal) == (FailureCode.MEMORY, "SIGKILL"), failure
    assert gone(noted_pids(note))


async def test_memory_that_processes_share_counts_once(pool: SlotPool) -> None:
    assert completed(await hazard(pool, "share_memory_with_children")) == {"value": 100 * MIB}


async def test_the_length_of_a_file_is_bounded(pool: SlotPool, tmp_path: Path) -> None:
    note = tmp_path / "file"
    failure = failed(await hazard(pool, "write_a_long_file", note=str(note))).failure
    assert failure.code is FailureCode.OPERATION_ERROR
    assert "File too large" in failure.message
    assert note.stat().st_size == 256 * MIB
    note.unlink()


async def test_the_directory_of_tasks_is_removed_with_their_slot(pool: SlotPool, tmp_path: Path) -> None:
    note = tmp_path / "directory"
    async with pool.acquire(Mode.ASYNC, "hazard") as slot:
        completed(await slot.run(task_of("note_the_directory", note)))
        directory = Path(note.read_text())
        assert directory.parent.name.startswith("consuma-slots-")
        completed(await slot.run(task_of("leave_a_file_behind")))
    await until(lambda: not directory.exists())


async def test_a_fork_bomb_in_sessions_of_its_own_ends_and_the_server_stays_responsive(
    pool: SlotPool, tmp_path: Path
) -> None:
    note = tmp_path / "pids"
    note.touch()
    failure = failed(await hazard(pool, "bomb", note=str(note))).failure
    assert "more processes than it may have" in failure.message
    await until(lambda: gone(noted_pids(note)))
    assert completed(await nap(pool, 0, 7)) == {"value": 7}


async def test_thirty_megabytes_of_output_take_no_time(pool: SlotPool) -> None:
    began_s = time.monotonic()
    assert completed(await hazard(pool, "print_30_mib")) == {"value": 1}
    assert time.monotonic() - began_s < 2


async def test_endless_output_leaves_the_event_loop_free(pool: SlotPool) -> None:
    before_s = os.times()
    assert failed(await hazard(pool, "print_for_ever", 2_000)).failure.code is FailureCode.TIMEOUT
    after_s = os.times()
    assert (after_s.user + after_s.system) - (before_s.user + before_s.system) < 1
