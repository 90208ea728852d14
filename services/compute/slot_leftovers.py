"""What a finished task has left in its slot that would touch the next one."""

import os
import signal
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, Self

__all__ = ["Surroundings"]

THREAD_EXIT_CHECKS: Final = 5
THREAD_EXIT_S: Final = 0.001
"""A joined thread is gone for Python a moment before it is gone for the kernel."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """State of a process that a task may change and the next one would notice."""

    directory: str
    recursion_limit: int
    threads: int

    @classmethod
    def now(cls) -> Self:
        """As they are."""
        return cls(_directory(), sys.getrecursionlimit(), _threads())

    def changed(self) -> str:
        """What is different from when this was taken, in words; empty when nothing is."""
        found = [words for words, is_there in self._differences() if is_there]
        return ", ".join(found)

    def _differences(self) -> tuple[tuple[str, bool], ...]:
        return (
            ("threads left behind", self._has_more_threads()),
            ("processes left behind", _has_children()),
            ("a timer left running", signal.getitimer(signal.ITIMER_REAL)[0] > 0),
            ("another working directory", _directory() != self.directory),
            ("another recursion limit", sys.getrecursionlimit() != self.recursion_limit),
        )

    def _has_more_threads(self) -> bool:
        for _ in range(THREAD_EXIT_CHECKS):
            if _threads() <= self.threads:
                return False
            time.sleep(THREAD_EXIT_S)
        return True


def _directory() -> str:
    with suppress(OSError):
        return os.getcwd()
    return ""


def _threads() -> int:
    """Threads of this process, those of C libraries too: the kernel counts them as links of the directory."""
    return os.stat("/proc/self/task").st_nlink - 2


def _has_children() -> bool:
    with suppress(OSError), open(f"/proc/self/task/{os.getpid()}/children") as file:
        return bool(file.read().strip())
    return False
