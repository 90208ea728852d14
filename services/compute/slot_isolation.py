"""What makes a process of its own out of a fork: group, priority, limits, and death with its parent.

Linux only, by design: each of these is a promise of the kernel, which holds while C code never lets go of the
interpreter lock.
"""

import ctypes
import os
import resource
import signal
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import Final

__all__ = [
    "GrowthLimit",
    "KernelTimer",
    "adopt_orphans",
    "close_inherited_files",
    "fork_ignoring_termination",
    "ignore_termination",
    "signal_when_parent_dies",
    "yield_to_others",
]

PR_SET_PDEATHSIG: Final = 1
PR_SET_CHILD_SUBREAPER: Final = 36
CLOCK_MONOTONIC: Final = 1
SIGEV_SIGNAL: Final = 0

NICENESS: Final = 5
PAGE_BYTES: Final = resource.getpagesize()
TERMINATION: Final = (signal.SIGINT, signal.SIGTERM)
OOM_SCORE: Final = "800"
"""Of 1000. The kernel, out of memory, takes a slot before any service."""

_libc: Final = ctypes.CDLL(None, use_errno=True)


def signal_when_parent_dies(number: signal.Signals, parent: int) -> None:
    """Have the kernel send a signal when the thread of `parent` that forked this process is gone."""
    if _libc.prctl(PR_SET_PDEATHSIG, int(number), 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl PR_SET_PDEATHSIG failed")
    if os.getppid() != parent:
        os._exit(1)


def adopt_orphans() -> None:
    """Become the parent of descendants whose own parent ends, so that no double fork escapes."""
    if _libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl PR_SET_CHILD_SUBREAPER failed")


def yield_to_others() -> None:
    """Stand back behind the event loop for the processor, and before it when memory runs out."""
    os.nice(NICENESS)
    with suppress(OSError), open("/proc/self/oom_score_adj", "w") as score:
        score.write(OOM_SCORE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def ignore_termination() -> None:
    """Leave it to the consumer when to stop: who signals a whole group or control group means that one.

    A handler rather than `SIG_IGN`: programs that an operation starts must not inherit deafness.
    """
    _on_termination(_do_nothing)
    os.register_at_fork(after_in_child=lambda: _on_termination(signal.SIG_DFL))


def fork_ignoring_termination() -> int:
    """As `os.fork`, but the fork ignores termination as this process does, from its first moment."""
    signal.pthread_sigmask(signal.SIG_BLOCK, TERMINATION)
    try:
        pid = os.fork()
        if pid == 0:
            _on_termination(_do_nothing)
        return pid
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, TERMINATION)


def _on_termination(handler: Callable[[int, FrameType | None], None] | signal.Handlers) -> None:
    for number in TERMINATION:
        signal.signal(number, handler)


def _do_nothing(_number: int, _frame: FrameType | None) -> None:
    """Go on."""


def close_inherited_files(kept: int) -> None:
    """Close every descriptor but standard input, output, error and `kept`."""
    highest = max(int(name) for name in os.listdir("/proc/self/fd"))
    os.closerange(3, kept)
    os.closerange(kept + 1, highest + 1)


class GrowthLimit:
    """How much address space this process may gain, and how long a file that it writes may be.

    Each call but `lift` reads from `descriptor`.
    """

    def __init__(self) -> None:
        self.descriptor = os.open("/proc/self/statm", os.O_RDONLY | os.O_CLOEXEC)

    def set(self, allowed_bytes: int) -> None:
        """Limit both, for the children that come as well."""
        size = int(os.pread(self.descriptor, 256, 0).split()[0]) * PAGE_BYTES
        _set_limits(size + allowed_bytes, allowed_bytes)

    def lift(self) -> None:
        """Limit neither."""
        _set_limits(resource.RLIM_INFINITY, resource.RLIM_INFINITY)

    def resident_bytes(self) -> int:
        """Memory of this process in use."""
        return int(os.pread(self.descriptor, 256, 0).split()[1]) * PAGE_BYTES


def _set_limits(address_space_bytes: int, file_bytes: int) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (address_space_bytes, resource.RLIM_INFINITY))
    resource.setrlimit(resource.RLIMIT_FSIZE, (file_bytes, resource.RLIM_INFINITY))


class _SigEvent(ctypes.Structure):
    """`struct sigevent` of Linux, 64 bytes."""

    _fields_ = [
        ("value", ctypes.c_void_p),
        ("signo", ctypes.c_int),
        ("notify", ctypes.c_int),
        ("padding", ctypes.c_char * 48),
    ]


class _TimerSpec(ctypes.Structure):
    """`struct itimerspec`."""

    _fields_ = [
        ("interval_s", ctypes.c_long),
        ("interval_ns", ctypes.c_long),
        ("value_s", ctypes.c_long),
        ("value_ns", ctypes.c_long),
    ]


class KernelTimer:
    """A SIGKILL to this process at a time to come, by the kernel alone: it needs no other process awake.

    Unlike `setitimer` it leaves SIGALRM to the operation.
    """

    def __init__(self) -> None:
        self._timer = ctypes.c_void_p()
        event = _SigEvent(signo=signal.SIGKILL, notify=SIGEV_SIGNAL)
        if _libc.timer_create(CLOCK_MONOTONIC, ctypes.byref(event), ctypes.byref(self._timer)) != 0:
            raise OSError(ctypes.get_errno(), "timer_create failed")

    def arm(self, after_ms: int) -> None:
        """Kill this process in `after_ms`, unless disarmed; 0 disarms."""
        spec = _TimerSpec(value_s=after_ms // 1000, value_ns=after_ms % 1000 * 1_000_000)
        _libc.timer_settime(self._timer, 0, ctypes.byref(spec), None)

    def disarm(self) -> None:
        """Take the threat back."""
        self.arm(0)
