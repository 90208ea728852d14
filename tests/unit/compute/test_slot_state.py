"""Nothing of a task is there for the next one: its slot ends, unless there is nothing left to notice."""

from pathlib import Path
from typing import Final

import pytest

from services.compute.slot_pool import SlotPool
from shared.domain.types import Mode
from shared.operations.builtin import BUILTIN_OPERATIONS
from shared.operations.model import Operation
from tests.support.waiting import until
from tests.unit.compute.support import completed, gone, noted_pids, running_pool, task, task_of

REASONS: Final = {
    "files": "files left open",
    "files twice": "files left open",
    "file for input": "files left open",
    "file for event": "files left open",
    "pipe for output": "files left open",
    "output": "files left open",
    "closed output": "another standard output",
    "encoded output": "another standard output",
    "blocking": "another mode of standard output",
    "handler": "another signal handler",
    "ignored": "another signal handler",
    "blocked": "blocked signals",
    "umask": "another umask",
    "group": "another user or group",
    "nice": "another priority",
    "limits": "other resource limits",
    "environment": "another environment",
    "zone": "another environment",
    "zone of the same name": "another environment",
    "locale": "another locale",
    "decimal": "another default of decimal",
    "random": "another state of random",
    "seed": "another state of random",
    "gauss": "another state of random",
    "warnings": "other warning filters",
    "path": "another module path",
    "recursion": "another setting of the interpreter",
    "digits": "another setting of the interpreter",
    "collector": "another setting of the interpreter",
    "directory": "another working directory",
    "left file": "files left in TMPDIR",
}


async def test_each_change_ends_the_slot_of_a_reusable_operation() -> None:
    async with running_pool(slots=1, spares=1) as pool:
        for change, reason in REASONS.items():
            async with pool.acquire(Mode.ASYNC, "hazard") as slot:
                completed(await slot.run(task_of("change_the_state", change)))
                assert slot.retire_reason == reason, change


async def test_the_context_of_decimal_is_each_tasks_own(pool: SlotPool) -> None:
    async with pool.acquire(Mode.ASYNC, "hazard") as slot:
        completed(await slot.run(task_of("set_the_precision")))
        third = completed(await slot.run(task_of("divide_one_by_three")))
        assert third == {"third": "0.3333333333333333333333333333"}


@pytest.mark.parametrize(
    "change", [each for each in REASONS if each not in ("left file", "blocking", "file for event")]
)
async def test_a_task_that_has_a_process_of_its_own_leaves_its_slot_as_it_was(
    pool: SlotPool, change: str
) -> None:
    async with pool.acquire(Mode.ASYNC, "hazard_once") as slot:
        completed(await slot.run(task("hazard_once", {"kind": "change_the_state", "note": change})))
        assert slot.usable, slot.retire_reason
        completed(await slot.run(task_of("do_nothing")))
        assert slot.usable, slot.retire_reason


async def test_tasks_of_an_operation_that_is_not_reusable_share_no_process(pool: SlotPool) -> None:
    async with pool.acquire(Mode.ASYNC, "hazard_once") as slot:
        told = [
            completed(await slot.run(task("hazard_once", {"kind": "tell_surroundings"}))) for _ in range(3)
        ]
    assert len({each["pid"] for each in told} | {slot.pid}) == 4
    assert {each["group"] for each in told} == {slot.pid}


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("leave_children", "processes"),
        ("leave_a_daemon", "processes"),
        ("leave_a_child_of_a_thread", "processes"),
        ("leave_a_file_behind", "TMPDIR"),
        ("print_without_blocking", "output"),
        ("leave_a_thread", ""),
    ],
)
async def test_what_outlives_the_process_of_a_task_ends_the_slot(
    pool: SlotPool, kind: str, reason: str, tmp_path: Path
) -> None:
    note = tmp_path / "pids"
    note.touch()
    async with pool.acquire(Mode.ASYNC, "hazard_once") as slot:
        completed(await slot.run(task("hazard_once", {"kind": kind, "note": str(note)})))
        assert reason in slot.retire_reason
        assert slot.usable is not bool(reason)
    await until(lambda: gone(noted_pids(note)))


@pytest.mark.parametrize("operation", BUILTIN_OPERATIONS, ids=lambda each: each.name)
async def test_a_built_in_operation_leaves_its_slot_in_use(pool: SlotPool, operation: Operation) -> None:
    async with pool.acquire(Mode.ASYNC, operation.name) as slot:
        for _ in range(3):
            completed(await slot.run(task(operation.name, operation.example)))
            assert slot.usable, slot.retire_reason


async def test_files_that_a_task_removes_leave_its_slot_in_use(pool: SlotPool) -> None:
    async with pool.acquire(Mode.ASYNC, "hazard") as slot:
        for _ in range(3):
            completed(await slot.run(task_of("use_files_tidily")))
            assert slot.usable, slot.retire_reason
