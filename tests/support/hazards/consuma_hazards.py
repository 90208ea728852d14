"""A plugin whose operations do everything that operations must not do. Put this folder on PYTHONPATH."""

# ruff: noqa: T201 - printing is one of the hazards, each named for what it does

import ctypes
import decimal
import gc
import locale
import mmap
import os
import random
import re
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Final

from shared.operations.model import Input, Limits, Operation

MIB: Final = 1024 * 1024
BOMB_PROCESSES: Final = 250
OTHER_LOCALE: Final = "C.UTF-8" if locale.setlocale(locale.LC_ALL) == "C" else "C"


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


def leave_a_child_of_a_thread(task: Hazard) -> dict[str, int]:
    forked = threading.Event()

    def fork() -> None:
        if (pid := os.fork()) == 0:
            time.sleep(600)
        _note(task, pid)
        forked.set()
        time.sleep(600)

    threading.Thread(target=fork, daemon=True).start()
    forked.wait()
    return {"value": 1}


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


def nap_300_ms(_: Hazard) -> dict[str, int]:
    time.sleep(0.3)
    return {"value": 1}


def nap_300_ms_and_return_two_mib(task: Hazard) -> object:
    time.sleep(0.3)
    return return_two_mib(task)


def note_itself_and_spin(task: Hazard) -> None:
    _note(task, os.getpid())
    spin(task)


def leave_a_hopper(task: Hazard) -> dict[str, int]:
    """A process that forks itself and ends, again and again: it is on no list for long."""
    if os.fork() == 0:
        _hop(task)
    while not Path(task.note).exists():
        time.sleep(0.001)
    return {"value": 1}


def _hop(task: Hazard) -> None:
    ends_s, note = time.monotonic() + 600, os.open(task.note, os.O_CREAT | os.O_WRONLY)
    while time.monotonic() < ends_s:
        if os.fork() != 0:
            os._exit(0)
        os.pwrite(note, f"{os.getpid()}\n".ljust(12).encode(), 0)
    os._exit(0)


def leave_a_hopper_and_crash(task: Hazard) -> None:
    leave_a_hopper(task)
    os._exit(5)


def leave_a_hopper_and_kill_the_server(task: Hazard) -> None:
    leave_a_hopper(task)
    kill_the_server(task)


def leave_children_and_kill_the_server(task: Hazard) -> None:
    leave_children(task)
    kill_the_server(task)


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


def change_the_state(task: Hazard) -> dict[str, int]:
    """Change what `note` names and leave it so."""
    CHANGES[task.note]()
    return {"value": 1}


A_CENT = decimal.Decimal("0.01") + 0  # as many plugins have one: it makes the context at import


def set_the_precision(_: Hazard) -> dict[str, int]:
    decimal.getcontext().prec = 3
    return {"value": 1}


def divide_one_by_three(_: Hazard) -> dict[str, str]:
    return {"third": str(ONE / decimal.Decimal(3))}


def print_30_mib(_: Hazard) -> dict[str, int]:
    for _number in range(480):
        os.write(1, b"x" * 65_536)
    return {"value": 1}


def write_a_long_file(task: Hazard) -> dict[str, int]:
    with open(task.note or tempfile.mkstemp()[1], "wb", buffering=0) as file:
        while file.write(bytes(MIB)):
            pass
    return {"value": 1}


def fill_the_directory(_: Hazard) -> None:
    """In files that are each below the limit."""
    for _number in range(10):
        with open(tempfile.mkstemp()[1], "wb", buffering=0) as file:
            for _part in range(40):
                file.write(bytes(MIB))
        time.sleep(0.1)
    time.sleep(600)


def nest_directories(_: Hazard) -> dict[str, int]:
    os.chdir(os.environ["TMPDIR"])
    for _each in range(1_500):
        os.mkdir("d")
        os.chdir("d")
    time.sleep(0.5)
    return {"value": 1}


def nest_directories_and_kill_the_server(task: Hazard) -> None:
    nest_directories(task)
    kill_the_server(task)


def make_many_files(_: Hazard) -> None:
    time.sleep(0.1)
    for number in range(20_000):
        (Path(tempfile.gettempdir()) / str(number)).touch()
    time.sleep(600)


def note_the_directory(task: Hazard) -> None:
    Path(task.note).write_text(tempfile.gettempdir())


def eat_memory_in_children(task: Hazard) -> None:
    """Four of 100 MiB each, none of which is beyond the limit."""
    for _number in range(4):
        if (pid := os.fork()) == 0:
            KEPT.append(bytearray(b"\x01") * (100 * MIB))
            time.sleep(600)
        _note(task, pid)
    time.sleep(600)


def share_memory_with_children(_: Hazard) -> dict[str, int]:
    """Four hold the 100 MiB of their parent, which are there once."""
    KEPT.append(bytearray(b"\x01") * (100 * MIB))
    pids = []
    for _number in range(4):
        if (pid := os.fork()) == 0:
            time.sleep(600)
        pids.append(pid)
    time.sleep(0.5)
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    return {"value": len(KEPT.pop())}


def hold_shared_memory(_: Hazard) -> None:
    """Two mappings that no limit of an address space sees together: each in a process of its own."""
    for _number in range(3):
        if os.fork() == 0:
            shared = mmap.mmap(-1, 120 * MIB)
            for place in range(0, len(shared), 4096):
                shared[place] = 1
            time.sleep(600)
    time.sleep(600)


def bomb(task: Hazard) -> None:
    """Every process forks for 5 s, each in a session of its own, as long as the sum is bearable."""
    ends_s, most = time.monotonic() + 5, len(os.listdir("/proc")) + BOMB_PROCESSES
    while time.monotonic() < ends_s and len(os.listdir("/proc")) < most:
        if os.fork() == 0:
            os.setsid()
            _note(task, os.getpid())
    time.sleep(600)


def _join_the_server() -> None:
    os.setpgid(0, os.getsid(0))


def _put_a_file_in_place_of(descriptor: int) -> None:
    """The number of open files stays the same."""
    with tempfile.TemporaryFile() as file:
        os.dup2(file.fileno(), descriptor)


def _put_a_file_in_place_of_an_event() -> None:
    """One that the slot has opened for itself."""
    found = next(n for n in os.listdir("/proc/self/fd") if "eventfd" in _target(f"/proc/self/fd/{n}"))
    _put_a_file_in_place_of(int(found))


def _put_a_pipe_in_place_of_the_output() -> None:
    """One that the next task would print to."""
    reading, writing = os.pipe()
    os.dup2(writing, 1)
    os.dup2(reading, 0)
    os.close(reading)
    os.close(writing)


def _move_to_a_zone_of_the_same_name() -> None:
    os.putenv("TZ", "UTC5")
    time.tzset()


def _leave_the_second_of_two_files() -> None:
    first = os.open(os.devnull, os.O_RDONLY)
    os.open(os.devnull, os.O_RDONLY)
    os.close(first)


def _move_to_japan() -> None:
    os.environ["TZ"] = "Asia/Tokyo"
    time.tzset()


def _close_standard_output() -> None:
    sys.stdout.close()


def _replace_standard_output() -> None:
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.close(null)


def _leave_a_file() -> None:
    with tempfile.NamedTemporaryFile(delete=False) as file:
        file.write(b"left")


def leave_a_file_behind(_: Hazard) -> dict[str, int]:
    _leave_a_file()
    return {"value": 1}


def print_without_blocking(_: Hazard) -> dict[str, int]:
    os.set_blocking(1, False)
    return {"value": 1}


def use_files_tidily(_: Hazard) -> dict[str, int]:
    with tempfile.NamedTemporaryFile() as file:
        file.write(b"gone")
    return {"value": 1}


def do_nothing(_: Hazard) -> dict[str, int]:
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


ONE: Final = decimal.Decimal(1)
"""Every process forked after its import shares the context that this number made."""

KEPT: Final[list[bytearray]] = []
CHANGES: Final[dict[str, Callable[[], object]]] = {
    "files": lambda: os.open(os.devnull, os.O_RDONLY),
    "file for input": lambda: _put_a_file_in_place_of(0),
    "file for event": _put_a_file_in_place_of_an_event,
    "pipe for output": _put_a_pipe_in_place_of_the_output,
    "zone of the same name": _move_to_a_zone_of_the_same_name,
    "files twice": _leave_the_second_of_two_files,
    "output": _replace_standard_output,
    "closed output": _close_standard_output,
    "encoded output": lambda: sys.stdout.reconfigure(encoding="ascii"),  # type: ignore[union-attr]
    "blocking": lambda: os.set_blocking(1, False),
    "handler": lambda: signal.signal(signal.SIGUSR1, lambda *_: None),
    "ignored": lambda: signal.signal(signal.SIGPIPE, signal.SIG_DFL),
    "blocked": lambda: signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1}),
    "umask": lambda: os.umask(0o07),
    "group": _join_the_server,
    "nice": lambda: os.nice(1),
    "limits": lambda: resource.setrlimit(
        resource.RLIMIT_NOFILE, (64, resource.getrlimit(resource.RLIMIT_NOFILE)[1])
    ),
    "environment": lambda: os.environ.update(LANGUAGE="xx"),
    "zone": _move_to_japan,
    "locale": lambda: locale.setlocale(locale.LC_ALL, OTHER_LOCALE),
    "decimal": lambda: setattr(decimal.DefaultContext, "prec", 3),
    "random": random.random,
    "seed": lambda: random.seed(5),
    "gauss": lambda: random.gauss(0, 1),
    "warnings": lambda: warnings.simplefilter("ignore"),
    "path": lambda: sys.path.append("/nowhere"),
    "recursion": lambda: sys.setrecursionlimit(500),
    "digits": lambda: sys.set_int_max_str_digits(0),
    "collector": gc.disable,
    "directory": lambda: os.chdir("/"),
    "left file": _leave_a_file,
}
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
    reusable=True,
    limits=Limits(memory_bytes=256 * MIB),
)
NAP = Operation(
    name="nap",
    description="Sleeps and returns a value.",
    input_model=Nap,
    run=_nap,
    example={"ms": 1, "value": 7},
    reusable=True,
)
ONCE = Operation(
    name="hazard_once",
    description="The same, without the promise to leave nothing behind.",
    input_model=Hazard,
    run=_hazard,
    example={"kind": "raise_error"},
    limits=Limits(memory_bytes=256 * MIB),
)
