"""Processes that must not outlive whoever started them, and those that did."""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from infra.local.child import Child, run_to_end
from infra.local.leftovers import end_leftovers
from infra.local.parts import MARK
from tests.support.waiting import until, until_now
from tests.unit.local.support import exists

SLEEP = [sys.executable, "-I", "-S", "-c", "import time; time.sleep(600)"]
STUBBORN = [
    *SLEEP[:-1],
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); time.sleep(600)",
]
PARENT = """
import os, pathlib, signal, sys, time
from infra.local.child import Child
log = pathlib.Path(sys.argv[1])
child = Child.start(sys.argv[2:], environment=os.environ, log=log, death_signal=signal.SIGKILL)
print(child.pid, flush=True)
time.sleep(600)
"""


def start(tmp_path: Path, command: list[str] = SLEEP) -> Child:
    return Child.start(command, environment=os.environ, log=tmp_path / "log", death_signal=signal.SIGKILL)


def test_a_child_dies_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    command = [sys.executable, "-c", PARENT, str(tmp_path / "log"), *SLEEP]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        until_now(lambda: Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[3:4] == [b"-c"])
        parent.kill()
    until_now(lambda: not exists(pid))


def test_a_child_does_not_start_under_a_parent_that_has_died() -> None:
    guard = Path(sys.modules["infra.local.child"].__file__ or "").with_name("guard.py")
    command = [sys.executable, "-I", "-S", str(guard), "9", "1", "/bin/echo", "started"]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "")


def test_a_child_has_a_group_of_its_own(tmp_path: Path) -> None:
    child = start(tmp_path)
    assert os.getpgid(child.pid) == child.pid != os.getpgrp()
    assert child.end(10.0) == -signal.SIGTERM


def test_what_does_not_end_is_killed(tmp_path: Path) -> None:
    child = start(tmp_path, STUBBORN)
    until_now(lambda: (tmp_path / "log").stat().st_size > 0)
    assert child.end(0.1) == -signal.SIGKILL
    assert not exists(child.pid)


async def test_a_cancelled_command_is_killed(tmp_path: Path) -> None:
    log = tmp_path / "log"
    command = [sys.executable, "-c", "import os, time; print(os.getpid(), flush=True); time.sleep(600)"]
    running = asyncio.create_task(run_to_end(command, environment=os.environ, log=log))
    await until(lambda: log.exists() and log.read_text().endswith("\n"))
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert not exists(int(log.read_text()))


def test_leftovers_are_ended_and_nobody_else(tmp_path: Path) -> None:
    """Also one that ignores SIGTERM; a process of another directory goes on."""
    marked = {**os.environ, MARK: str(tmp_path)}
    other = {**os.environ, MARK: str(tmp_path / "other")}
    processes = [
        subprocess.Popen(SLEEP, env=environment, start_new_session=True)
        for environment in (marked, marked, other)
    ]
    try:
        until_now(lambda: all(_has_become_python(each.pid) for each in processes))
        assert end_leftovers(tmp_path) == 2
        assert [exists(each.pid) for each in processes] == [False, False, True]
        assert end_leftovers(tmp_path) == 0
    finally:
        for each in processes:
            each.kill()
            each.wait()


def test_leftovers_that_ignore_sigterm_are_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("infra.local.leftovers.GRACE_S", 0.2)
    environment = {**os.environ, MARK: str(tmp_path)}
    with subprocess.Popen(STUBBORN, env=environment, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert end_leftovers(tmp_path) == 1
        assert process.wait(10.0) == -signal.SIGKILL


def _has_become_python(pid: int) -> bool:
    return MARK.encode() in Path(f"/proc/{pid}/environ").read_bytes()
