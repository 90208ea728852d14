"""State of a slot's process that a task may change and the next one would notice.

Every reading is a system call or a look-up of a microsecond at most, since all of them are taken after each
task. What they do not see (patched modules, handlers that C code sets, files outside TMPDIR) is a promise of
the operation that calls itself reusable.
"""

import ctypes
import decimal
import gc
import importlib
import locale
import os
import random
import resource
import signal
import stat
import sys
import time
import warnings
from _random import Random
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Final, TextIO

from services.compute.slot_tree import has_children

__all__ = ["ProcessState", "Remains"]

THREAD_EXIT_CHECKS: Final = 5
THREAD_EXIT_S: Final = 0.001
"""A joined thread is gone for Python a moment before it is gone for the kernel."""

OBJECT_HEAD_BYTES: Final = object.__basicsize__
TWISTER_BYTES: Final = Random.__basicsize__ - OBJECT_HEAD_BYTES
LIMITS: Final = (
    resource.RLIMIT_CORE,
    resource.RLIMIT_CPU,
    resource.RLIMIT_DATA,
    resource.RLIMIT_NOFILE,
    resource.RLIMIT_NPROC,
    resource.RLIMIT_STACK,
)
"""Those that a computation meets; the slot sets those of address space and files for each task."""

SIGNALS: Final = range(1, 32)
_handler_of: Final = importlib.import_module("_signal").getsignal
"""The function of C: the one of `signal` makes an enum of each number, in 1 µs."""

_shared_random: Final[Random] = getattr(random.random, "__self__")  # noqa: B009 - untyped


class Remains:
    """What outlives the process that looks: its children, files in `directory`, the mode of its output."""

    def __init__(self, directory: str) -> None:
        flags = os.O_RDONLY | os.O_CLOEXEC
        self._directory = os.open(directory, flags)
        self._changed_ns = os.fstat(self._directory).st_mtime_ns

    def found(self) -> str:
        """What there is, in words, or nothing."""
        if has_children():
            return "processes left behind"
        if not (os.get_blocking(1) and os.get_blocking(2)):
            return "another mode of standard output"
        changed_ns = os.fstat(self._directory).st_mtime_ns
        if changed_ns == self._changed_ns:
            return ""
        self._changed_ns = changed_ns
        return "files left in TMPDIR" if os.listdir(self._directory) else ""


class ProcessState:
    """The state at the time of its creation, and what differs from it later.

    Args:
        proven: a descriptor that each task's run reads from, so that a file in its place is noticed anyway.
    """

    def __init__(self, proven: int) -> None:
        self._own = [each for each in _own_files() if each != proven]
        flags = os.O_RDONLY | os.O_CLOEXEC
        self._tasks = os.open("/proc/self/task", flags)
        self._files = os.open("/proc/self/fd", flags)
        self._readings: tuple[tuple[str, Callable[[], object]], ...] = (
            ("files left open", self._open_files),
            ("another standard output", _output),
            ("another signal handler", lambda: list(map(_handler_of, SIGNALS))),
            ("blocked signals", lambda: signal.pthread_sigmask(signal.SIG_BLOCK, ())),
            ("a timer left running", lambda: [signal.getitimer(which)[0] > 0 for which in range(3)]),
            ("another working directory", _working_directory),
            ("another umask", _umask),
            ("another user or group", lambda: (os.getresuid(), os.getresgid(), os.getpgrp())),
            ("another priority", lambda: (os.getpriority(os.PRIO_PROCESS, 0), os.sched_getaffinity(0))),
            ("other resource limits", lambda: [resource.getrlimit(each) for each in LIMITS]),
            ("another environment", lambda: (dict(vars(os.environ)["_data"]), _zone())),
            ("another locale", lambda: locale.setlocale(locale.LC_ALL)),
            ("another default of decimal", lambda: repr(decimal.DefaultContext)),
            ("another state of random", _random_state),
            ("other warning filters", lambda: list(warnings.filters)),
            ("another module path", lambda: list(sys.path)),
            ("another setting of the interpreter", _interpreter),
        )
        self._threads = self._count_threads()
        self._base = [read() for _, read in self._readings]

    def changed(self) -> str:
        """What differs, in words; empty when nothing does."""
        found = [
            words for (words, read), base in zip(self._readings, self._base, strict=True) if read() != base
        ]
        if self._has_more_threads():
            found.append("threads left behind")
        return ", ".join(found)

    def _open_files(self) -> tuple[int, object]:
        """How many descriptors are open, and which files the slot's own are.

        The size of the directory is their number since Linux 6.2, before that 0.
        """
        return os.fstat(self._files).st_size or len(os.listdir(self._files)), _identities(self._own)

    def _count_threads(self) -> int:
        """Threads of this process, those of C libraries too: the kernel counts them as links."""
        return os.fstat(self._tasks).st_nlink

    def _has_more_threads(self) -> bool:
        for _ in range(THREAD_EXIT_CHECKS):
            if self._count_threads() <= self._threads:
                return False
            time.sleep(THREAD_EXIT_S)
        return True


def _own_files() -> tuple[int, ...]:
    """Open descriptors, but sockets and directories: a file in place of such is noticed when it is used."""
    found = []
    for descriptor in map(int, os.listdir("/proc/self/fd")):
        with suppress(OSError):  # that of the look has ended
            mode = os.fstat(descriptor).st_mode
            if not (stat.S_ISSOCK(mode) or stat.S_ISDIR(mode)):
                found.append(descriptor)
    return tuple(found)


def _identities(descriptors: Iterable[int]) -> list[tuple[int, int]]:
    """Which file each of them is now; nothing when one is closed."""
    try:
        return [(found.st_dev, found.st_ino) for found in map(os.fstat, descriptors)]
    except OSError:
        return []


def _zone() -> tuple[object, ...]:
    return time.tzname, time.timezone, time.altzone, time.daylight


def _output() -> tuple[object, ...]:
    return _text(sys.stdout), _text(sys.stderr)


def _text(stream: TextIO) -> tuple[object, ...]:
    """A stream and how it writes; all but the stream is unknown of one that is detached."""
    try:
        return stream, stream.closed, stream.encoding, stream.errors
    except (AttributeError, ValueError):
        return (stream,)


def _working_directory() -> str:
    try:
        return os.getcwd()
    except OSError:
        return ""


def _umask() -> int:
    mask = os.umask(0o77)
    os.umask(mask)
    return mask


def _random_state() -> tuple[bytes, object]:
    """The bytes of the module's Mersenne Twister: `getstate` makes 625 integers of them, in 25 µs."""
    state = ctypes.string_at(id(_shared_random) + OBJECT_HEAD_BYTES, TWISTER_BYTES)
    return state, vars(_shared_random).get("gauss_next")


def _interpreter() -> tuple[object, ...]:
    return (
        sys.getrecursionlimit(),
        sys.get_int_max_str_digits(),
        sys.getswitchinterval(),
        sys.gettrace(),
        sys.getprofile(),
        gc.isenabled(),
        gc.get_threshold(),
    )
