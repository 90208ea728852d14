"""The directories of consumers that are gone are removed by the next one, and no others."""

import multiprocessing
import os
import signal
import tempfile
from multiprocessing.process import BaseProcess
from multiprocessing.synchronize import Barrier
from pathlib import Path

import psutil
import pytest

from services.compute.slot_directory import SlotDirectory, remove_abandoned
from tests.support.waiting import until
from tests.unit.compute.support import gone, lone_consumer, noted_pids, running_pool


@pytest.fixture(autouse=True)
def temporary(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return tmp_path


def abandoned(directory: Path, name: str = "consuma-slots-left") -> Path:
    left = directory / name
    (left / "1" / "deep").mkdir(parents=True)
    (left / "1" / "deep" / "file").touch()
    (left / "lock").touch()
    return left


def test_a_directory_is_kept_while_its_consumer_lives(temporary: Path) -> None:
    directory = SlotDirectory()
    (Path(directory.path) / "1").mkdir()
    remove_abandoned()
    assert sorted(os.listdir(directory.path)) == ["1", "lock"]
    directory.remove()
    assert os.listdir(temporary) == []


def test_a_directory_whose_lock_is_free_is_removed(temporary: Path) -> None:
    abandoned(temporary)
    remove_abandoned()
    assert os.listdir(temporary) == []


def test_what_is_no_directory_of_a_consumer_is_left_alone(
    temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (temporary / "consuma-slots-no-lock" / "1").mkdir(parents=True)
    target = abandoned(temporary, "elsewhere")
    (temporary / "consuma-slots-link").symlink_to(target)
    linked = temporary / "consuma-slots-linked-lock"
    linked.mkdir()
    (linked / "lock").symlink_to(target / "lock")
    piped = temporary / "consuma-slots-pipe"
    piped.mkdir()
    (piped / "lock").mkdir()
    before = sorted(os.listdir(temporary))
    remove_abandoned()
    assert sorted(os.listdir(temporary)) == before
    assert (target / "1" / "deep" / "file").exists()
    others = abandoned(temporary)
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    remove_abandoned()
    assert others.exists()


def _start(begin: Barrier, rounds: int) -> None:
    for _ in range(rounds):
        begin.wait(30)
        remove_abandoned()
        directory = SlotDirectory()
        (Path(directory.path) / "1").mkdir()
        remove_abandoned()
        if sorted(os.listdir(directory.path)) != ["1", "lock"]:
            os._exit(3)
        begin.wait(30)
        directory.remove()


def test_starters_at_the_same_time_remove_only_what_is_left(temporary: Path) -> None:
    context = multiprocessing.get_context("fork")
    rounds, begin = 20, context.Barrier(3)
    starters: list[BaseProcess] = [context.Process(target=_start, args=(begin, rounds)) for _ in range(2)]
    for each in starters:
        each.start()
    for number in range(rounds):
        abandoned(temporary, f"consuma-slots-{number}")
        begin.wait(30)
        begin.wait(30)
        assert not (temporary / f"consuma-slots-{number}").exists()
    for each in starters:
        each.join(30)
        assert each.exitcode == 0


async def test_a_consumer_and_a_server_that_were_killed_together_leave_no_directory_for_long(
    temporary: Path,
) -> None:
    note = temporary / "note"
    async with lone_consumer("note_itself_and_spin", note) as process:
        await until(lambda: note.exists() and bool(noted_pids(note)))
        (slot,) = noted_pids(note)
        server = psutil.Process(slot).ppid()
        os.kill(server, signal.SIGSTOP)
        process.kill()
        os.kill(server, signal.SIGKILL)
        await process.wait()
        await until(lambda: gone({slot, server}))
    note.unlink()
    (left,) = os.listdir(temporary)
    async with running_pool(slots=1, spares=0):
        assert not (temporary / left).exists()
    assert os.listdir(temporary) == []
