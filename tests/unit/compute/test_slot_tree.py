"""Processes are found below a process, and killed; what may not be killed stops nobody."""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from services.compute.slot_tree import (
    children,
    descendants,
    directory_bytes,
    kill,
    kill_descendants,
    remove_directory,
)
from tests.support.waiting import until
from tests.unit.compute.support import failed, gone, lone_consumer, run, running_pool, task

FAMILY = """
import os, sys, threading, time
def grow():
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            time.sleep(600)
        time.sleep(600)
thread = threading.Thread(target=grow)
thread.start(); thread.join()
keep = threading.Thread(target=lambda: (grow(), time.sleep(600)), daemon=True)
keep.start()
time.sleep(600)
"""


async def test_every_descendant_is_found_and_killed_whatever_thread_forked_it() -> None:
    family = await asyncio.create_subprocess_exec(sys.executable, "-c", FAMILY)
    try:
        await until(lambda: len(descendants(family.pid)) == 4)
        assert len(children(family.pid)) == 2
        found = descendants(family.pid)
        family.send_signal(signal.SIGSTOP)
        assert kill_descendants(family.pid, 5) == 0
        await until(lambda: gone(found))  # it is no reaper: grandchildren went elsewhere while they died
    finally:
        family.kill()
        await family.wait()


ORPHAN = """
import os, time
from services.compute import slot_worker
from services.compute.slot_isolation import adopt_orphans
slot_worker._end_with_children()
adopt_orphans()
if os.fork() == 0:
    if (pid := os.fork()) == 0:
        time.sleep(600)
    print(pid, flush=True)
    os._exit(0)
os.wait()
slot_worker._end_with_children()
print("went on")
"""


def test_a_slot_kills_what_came_to_it_from_a_task_and_ends() -> None:
    command = [sys.executable, "-c", ORPHAN]
    told = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=30, check=True).stdout
    assert gone({int(told)})


MISSED = """
import os, time
from services.compute import slot_tree
from services.compute.slot_isolation import adopt_orphans
adopt_orphans()
if (pid := os.fork()) == 0:
    time.sleep(600)
print(pid, flush=True)
found, looks = slot_tree.descendants, []
def miss(pid):
    looks.append(pid)
    return found(pid) if len(looks) > 30 else set()
slot_tree.descendants = miss
assert slot_tree.kill_all_below(30)
"""


def test_a_process_that_no_look_finds_is_not_taken_for_dead() -> None:
    command = [sys.executable, "-c", MISSED]
    told = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=60, check=True).stdout
    assert gone({int(told)})


async def test_a_process_that_moves_in_the_tree_dies_with_the_consumer_whose_server_died(
    tmp_path: Path,
) -> None:
    note = tmp_path / "note"
    async with lone_consumer("leave_a_hopper_and_kill_the_server", note) as process:
        assert await process.wait() == 1
    assert not await changes(note)


async def test_a_process_that_moves_in_the_tree_dies_with_its_task(tmp_path: Path) -> None:
    note = tmp_path / "note"
    async with running_pool(slots=1, spares=0) as pool:
        for operation in ("hazard", "hazard_once"):
            failed(await run(pool, task(operation, {"kind": "leave_a_hopper_and_crash", "note": str(note)})))
            assert not await changes(note)
            note.unlink()


async def changes(note: Path) -> bool:
    """Whether there is still a process that writes its id into `note` whenever it has another."""
    before = await asyncio.to_thread(note.read_text)
    await asyncio.sleep(0.3)
    return await asyncio.to_thread(note.read_text) != before


def test_nobody_is_below_a_process_that_is_gone() -> None:
    with subprocess.Popen(["true"]) as process:
        process.wait()
    assert descendants(process.pid) == set()
    kill(process.pid)


def test_a_process_that_may_not_be_killed_raises_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_pid: int, _signal: int) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "kill", refuse)
    kill(1)


def test_a_directory_is_measured_up_to_a_number_of_files(tmp_path: Path) -> None:
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "file").write_bytes(bytes(100_000))
    measured = directory_bytes(str(tmp_path))
    assert measured is not None
    assert measured >= 100_000
    for number in range(10_001):
        (tmp_path / str(number)).touch()
    assert directory_bytes(str(tmp_path)) is None


@pytest.mark.parametrize(("name", "countable"), [("d", True), ("d" * 200, False)])
def test_directories_of_any_depth_are_measured_or_given_up_and_removed(
    tmp_path: Path, name: str, countable: bool
) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "link").symlink_to(tmp_path)
    make = f"import os; [(os.mkdir({name!r}), os.chdir({name!r})) for _ in range(1500)]; open('file', 'w')"
    subprocess.run([sys.executable, "-c", make], cwd=tree, check=True)
    assert (directory_bytes(str(tree)) is not None) is countable
    remove_directory(str(tree))
    assert os.listdir(tmp_path) == []


def test_a_directory_that_is_not_there_is_removed_in_silence(tmp_path: Path) -> None:
    remove_directory(str(tmp_path / "none"))
    assert directory_bytes(str(tmp_path / "none")) == 0


def test_a_death_of_the_service_needs_no_reader_of_its_output() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    program = "import sys; from services.compute.app import _die; sys.stdout.write('x'); _die()"
    process = subprocess.run([sys.executable, "-c", program], stdout=writing, check=False)
    os.close(writing)
    assert process.returncode == 1


def nest(directory: Path, depth: int) -> None:
    """Make directories deeper than a path can name."""
    descriptor = os.open(directory, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir("d", dir_fd=descriptor)
        below = os.open("d", os.O_RDONLY, dir_fd=descriptor)
        os.close(descriptor)
        descriptor = below
    os.close(descriptor)


def test_directories_of_any_depth_are_measured_and_removed(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    nest(root, 3_000)
    (root / "file").write_bytes(b"x" * 5_000)
    (root / "closed").mkdir(mode=0o000)
    assert directory_bytes(str(root)) is None, "too deep to be counted"
    remove_directory(str(root))
    assert not root.exists()


def test_a_directory_that_is_gone_is_no_error(tmp_path: Path) -> None:
    remove_directory(str(tmp_path / "absent"))
    assert directory_bytes(str(tmp_path / "absent")) == 0
