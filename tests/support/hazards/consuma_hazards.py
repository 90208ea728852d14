"""A plugin whose operations do everything that operations must not do. Put this folder on PYTHONPATH."""

# ruff: noqa: T201 - printing is one of the hazards, each named for what it does

import ctypes
import gc
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from shared.operations.model import Input, Limits, Operation

MIB: Final = 1024 * 1024


class Hazard(Input):
    """What to do, and where to note process ids for the test to look after."""

    kind: str
    note: str = ""


class Nap(Input):
    """How long to sleep before returning `value`."""

    ms: int = 0
    value: int = 0


def _nap(task: Nap) -> dict[str, int]:
    time.sleep(task.ms / 1000)
    return {"value": task.value}


def _hazard(task: Hazard) -> object:
    return KINDS[task.kind](task)


def segfault(_: Hazard) -> object:
    return ctypes.string_at(0)


def exit_with_3(_: Hazard) -> None:
    os._exit(3)


def abort(_: Hazard) -> None:
    os.abort()


def kill_itself(_: Hazard) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def raise_system_exit(_: Hazard) -> None:
    sys.exit("no")


def raise_error(_: Hazard) -> None:
    raise ValueError("no such luck")


class RudeError(Exception):
    """Cannot even be printed."""

    def __str__(self) -> str:
        raise SystemExit(4)


def raise_unprintable(_: Hazard) -> None:
    raise RudeError


def spin(_: Hazard) -> None:
    while True:
        pass


def spin_holding_the_lock(_: Hazard) -> object:
    return re.match(r"(a+)+$", "a" * 60 + "b")


def stall_the_channel(_: Hazard) -> None:
    os.kill(os.getpid(), signal.SIGSTOP)


def spin_in_a_finalizer(_: Hazard) -> dict[str, int]:
    class Cycle:
        def __init__(self) -> None:
            self.me = self

        def __del__(self) -> None:
            spin(Hazard(kind=""))

    Cycle()
    return {"value": 1}


def eat_memory(_: Hazard) -> int:
    hoard = []
    while True:
        hoard.append(bytearray(16 * MIB))


def hold_100_mib(_: Hazard) -> dict[str, int]:
    return {"held": len(bytearray(b"\x01") * (100 * MIB))}


def keep_100_mib(_: Hazard) -> dict[str, int]:
    KEPT.append(bytearray(b"\x01") * (100 * MIB))
    return {"kept": len(KEPT)}


def recurse(_: Hazard) -> object:
    return recurse(_)


def overflow_the_stack(_: Hazard) -> object:
    """Through C code, so that it is the machine's stack that ends."""
    sys.setrecursionlimit(10**9)
    return list(map(overflow_the_stack, [_]))


def return_an_object(_: Hazard) -> object:
    return {"result": object()}


class Bomb:
    """Runs code wherever it is unpickled."""

    def __init__(self, note: str) -> None:
        self.note = note

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str, str]]:
        return open, (self.note, "w")


def return_a_bomb(task: Hazard) -> object:
    return Bomb(task.note)


def return_nan(_: Hazard) -> object:
    return {"value": float("nan")}


def return_too_much(_: Hazard) -> object:
    return "x" * (3 * MIB)


def return_two_mib(_: Hazard) -> object:
    return "x" * (2 * MIB - 2)


def leave_a_thread(_: Hazard) -> dict[str, int]:
    threading.Thread(target=spin, args=(_,), daemon=True).start()
    return {"value": 1}


def join_a_thread(_: Hazard) -> dict[str, int]:
    thread = threading.Thread(target=time.sleep, args=(0.01,))
    thread.start()
    thread.join()
    return {"value": 1}


def leave_children(task: Hazard) -> dict[str, int]:
    _note(task, subprocess.Popen(["/bin/sleep", "600"]).pid)
    if (pid := os.fork()) == 0:
        time.sleep(600)
    _note(task, pid)
    return {"value": 1}


def leave_a_daemon(task: Hazard) -> dict[str, int]:
    _daemon(task)
    return {"value": 1}


def spin_with_a_daemon(task: Hazard) -> None:
    _daemon(task)
    spin(task)


def crash_with_a_daemon(task: Hazard) -> None:
    _daemon(task)
    os._exit(5)


def hold_the_channel_and_die(task: Hazard) -> None:
    """The child inherits every descriptor of the slot, so nobody sees an end of file."""
    if (pid := os.fork()) == 0:
        time.sleep(600)
    _note(task, pid)
    os._exit(6)


def close_every_file(_: Hazard) -> dict[str, int]:
    os.closerange(3, 256)
    return {"value": 1}


def answer_for_the_slot(_: Hazard) -> dict[str, int]:
    for number in range(3, 64):
        try:
            os.write(number, b"\xff" * 64)
        except OSError:
            continue
    time.sleep(600)
    return {"value": 1}


def leave_an_alarm(_: Hazard) -> dict[str, int]:
    signal.setitimer(signal.ITIMER_REAL, 0.2)
    return {"value": 1}


def move_away(_: Hazard) -> dict[str, int]:
    os.chdir("/")
    sys.setrecursionlimit(500)
    return {"value": 1}


def print_a_little(_: Hazard) -> dict[str, int]:
    print("hello from", "the operation")
    os.write(2, b"and from its C code\n")
    return {"value": 1}


def print_for_ever(_: Hazard) -> None:
    while True:
        print("x" * 1000)


def print_a_lot(_: Hazard) -> dict[str, int]:
    print("x" * 300_000)
    return {"value": 1}


def leave_garbage(_: Hazard) -> dict[str, int]:
    gc.disable()
    return {"value": 1}


def kill_the_server(_: Hazard) -> None:
    os.kill(os.getppid(), signal.SIGKILL)
    time.sleep(600)


def kill_the_consumer(_: Hazard) -> None:
    """The parent of the server that forked this slot."""
    of_server = Path(f"/proc/{os.getppid()}/stat").read_text().rpartition(")")[2].split()
    os.kill(int(of_server[1]), signal.SIGKILL)
    time.sleep(600)


def tell_surroundings(_: Hazard) -> dict[str, object]:
    files = {name: _target(f"/proc/self/fd/{name}") for name in os.listdir("/proc/self/fd")}
    return {
        "files": files,
        "environment": sorted(os.environ),
        "niceness": os.nice(0),
        "oom_score": int(Path("/proc/self/oom_score_adj").read_text()),
        "group": os.getpgid(0),
        "pid": os.getpid(),
    }


def _target(path: str) -> str:
    try:
        return str(Path(path).readlink())
    except OSError:
        return ""


def _daemon(task: Hazard) -> None:
    """A grandchild in a session of its own, whose parent is gone."""
    if (child := os.fork()) == 0:
        os.setsid()
        if os.fork() == 0:
            _note(task, os.getpid())
            time.sleep(600)
        os._exit(0)
    os.waitpid(child, 0)
    while not Path(task.note).exists():
        time.sleep(0.001)


def _note(task: Hazard, pid: int) -> None:
    with Path(task.note).open("a") as file:
        file.write(f"{pid}\n")


KEPT: Final[list[bytearray]] = []
KINDS: Final[dict[str, Callable[[Hazard], object]]] = {
    name: value
    for name, value in list(globals().items())
    if callable(value) and not name.startswith("_") and getattr(value, "__module__", "") == __name__
}

HAZARD = Operation(
    name="hazard",
    description="Does what operations must not do.",
    input_model=Hazard,
    run=_hazard,
    example={"kind": "raise_error"},
    limits=Limits(memory_bytes=256 * MIB),
)
NAP = Operation(
    name="nap",
    description="Sleeps and returns a value.",
    input_model=Nap,
    run=_nap,
    example={"ms": 1, "value": 7},
)
