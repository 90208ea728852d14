"""Each hazard of foreign code, with 20 neighbours in flight: it harms itself alone and its reason is told."""

import asyncio
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from services.compute.slot_outcome import Completed
from services.compute.slot_pool import SlotPool
from shared.domain.requests import FailureCode
from shared.domain.types import Mode
from tests.support.waiting import until
from tests.unit.compute.support import (
    completed,
    failed,
    gone,
    hazard,
    nap,
    neighbours,
    noted_pids,
    run,
    running_pool,
    task,
    task_of,
)

LIMIT_MS: Final = 400
NEIGHBOURS: Final = 20
MIB: Final = 1024 * 1024


@dataclass(frozen=True, kw_only=True)
class Expected:
    """What the failure must say."""

    code: FailureCode
    signal: str | None = None
    exit_code: int | None = None
    type: str | None = None
    words: str = ""


TIMEOUT: Final = Expected(code=FailureCode.TIMEOUT, signal="SIGKILL", words=f"limit of {LIMIT_MS} ms")
CRASHED: Final = FailureCode.CRASHED
RAISED: Final = FailureCode.OPERATION_ERROR

FAULTS: Final = {
    "segfault": Expected(code=CRASHED, signal="SIGSEGV", words="killed by SIGSEGV"),
    "abort": Expected(code=CRASHED, signal="SIGABRT"),
    "overflow_the_stack": Expected(code=CRASHED, signal="SIGSEGV"),
    "kill_itself": Expected(code=CRASHED, signal="SIGKILL", words="memory pressure"),
    "exit_with_3": Expected(code=CRASHED, exit_code=3, words="exit code 3"),
    "hold_the_channel_and_die": Expected(code=CRASHED, exit_code=6),
    "close_every_file": Expected(code=CRASHED),
    "answer_for_the_slot": Expected(code=CRASHED, words="protocol"),
    "spin": TIMEOUT,
    "spin_holding_the_lock": TIMEOUT,
    "spin_in_a_finalizer": TIMEOUT,
    "stall_the_channel": TIMEOUT,
    "print_for_ever": TIMEOUT,
    "raise_error": Expected(code=RAISED, type="ValueError", words="no such luck"),
    "raise_system_exit": Expected(code=RAISED, type="SystemExit"),
    "raise_unprintable": Expected(code=RAISED, type="RudeError"),
    "recurse": Expected(code=RAISED, type="RecursionError"),
    "eat_memory": Expected(code=FailureCode.MEMORY, words="more than the 268435456 bytes"),
    "return_an_object": Expected(code=FailureCode.INVALID_RESULT),
    "return_a_bomb": Expected(code=FailureCode.INVALID_RESULT),
    "return_nan": Expected(code=FailureCode.INVALID_RESULT),
    "return_too_much": Expected(code=FailureCode.RESULT_TOO_LARGE, words="2097152 are allowed"),
}


@pytest.mark.parametrize(
    ("kind", "operation"),
    [(kind, "hazard") for kind in FAULTS]
    + [(kind, "hazard_once") for kind in FAULTS if kind != "spin_in_a_finalizer"],
)
async def test_a_fault_is_told_and_harms_no_neighbour(kind: str, operation: str, tmp_path: Path) -> None:
    expected = FAULTS[kind]
    note = tmp_path / "pids"
    note.touch()
    async with running_pool(slots=NEIGHBOURS + 1, spares=1) as pool:
        naps = asyncio.create_task(neighbours(pool, NEIGHBOURS, LIMIT_MS))
        await until(lambda: pool.running == NEIGHBOURS)
        limit_ms = LIMIT_MS if expected is TIMEOUT else 60_000
        wanted = task(operation, {"kind": kind, "note": str(note)}, limit_ms)
        outcome = failed(await run(pool, wanted))
        assert [completed(each) for each in await naps] == [{"value": each} for each in range(NEIGHBOURS)]
    failure = outcome.failure
    assert failure.code is expected.code, failure
    assert expected.words in failure.message
    assert expected.signal is None or failure.signal == expected.signal
    assert expected.exit_code is None or failure.exit_code == expected.exit_code
    assert expected.type is None or failure.type == expected.type
    assert failure.peak_rss_bytes is None or failure.peak_rss_bytes > 1024**2
    assert outcome.compute_ms >= (LIMIT_MS if expected is TIMEOUT else 0)
    await until(lambda: gone(noted_pids(note)))


async def test_a_result_with_code_in_it_runs_nowhere(pool: SlotPool, tmp_path: Path) -> None:
    note = tmp_path / "exploded"
    failed(await hazard(pool, "return_a_bomb", note=str(note)))
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("leave_a_thread", "threads"),
        ("leave_children", "processes"),
        ("leave_a_daemon", "processes"),
        ("leave_an_alarm", "timer"),
        ("move_away", "directory"),
    ],
)
async def test_what_a_task_leaves_behind_dies_with_its_slot(kind: str, reason: str, tmp_path: Path) -> None:
    note = tmp_path / "pids"
    note.touch()
    async with running_pool(slots=1, spares=1) as pool:
        async with pool.acquire(Mode.ASYNC, "hazard") as slot:
            completed(await slot.run(task_of(kind, note)))
            assert reason in slot.retire_reason
        pid = slot.pid
        assert pid is not None
        assert completed(await nap(pool, 300, 5)) == {"value": 5}
        await until(lambda: gone({pid, *noted_pids(note)}))


@pytest.mark.parametrize("kind", ["join_a_thread", "hold_100_mib", "print_a_lot"])
async def test_a_tidy_task_leaves_its_slot_in_use(pool: SlotPool, kind: str) -> None:
    async with pool.acquire(Mode.ASYNC, "hazard") as slot:
        completed(await slot.run(task_of(kind)))
        assert slot.usable, slot.retire_reason


@pytest.mark.parametrize("kind", ["spin_with_a_daemon", "crash_with_a_daemon"])
async def test_a_daemon_that_left_its_group_dies_with_its_task(
    pool: SlotPool, kind: str, tmp_path: Path
) -> None:
    note = tmp_path / "pids"
    failed(await hazard(pool, kind, LIMIT_MS, str(note)))
    assert noted_pids(note)
    assert gone(noted_pids(note))


async def test_peak_memory_is_of_one_task(pool: SlotPool) -> None:
    async with pool.acquire(Mode.ASYNC, "hazard") as slot:
        large = await slot.run(task_of("hold_100_mib"))
        small = await slot.run(task_of("print_a_little"))
    assert isinstance(large, Completed)
    assert isinstance(small, Completed)
    assert large.peak_rss_bytes > 100 * MIB
    assert small.peak_rss_bytes < 80 * MIB
