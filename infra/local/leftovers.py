"""Processes of an earlier run whose supervisor is gone.

They are found by the mark in their environment, not by remembered pids: a pid may have passed to somebody
else. Each is held by a descriptor before its mark is read, so what is signalled is what was looked at.
"""

import os
import select
import signal
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

from infra.local.parts import MARK

__all__ = ["end_leftovers", "living"]

GRACE_S: Final = 10.0
KILL_S: Final = 5.0


def end_leftovers(data_dir: Path) -> int:
    """End every process that belongs to `data_dir`; the database and the broker may close their files first.

    Blocks for at most `GRACE_S + KILL_S`. Returns how many there were.
    """
    found = _marked(data_dir)
    try:
        _signal(found, signal.SIGTERM)
        _signal(_wait(found, GRACE_S), signal.SIGKILL)
        _wait(found, KILL_S)
    finally:
        for descriptor in found:
            os.close(descriptor)
    return len(found)


def living(data_dir: Path) -> int:
    """How many processes that belong to `data_dir` run."""
    found = _marked(data_dir)
    for descriptor in found:
        os.close(descriptor)
    return len(found)


def _marked(data_dir: Path) -> list[int]:
    """Descriptors of the processes that bear the mark."""
    mark = f"{MARK}={data_dir}".encode()
    found = []
    for entry in os.scandir("/proc"):
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        with suppress(OSError):  # it has ended, or is somebody else's
            descriptor = os.pidfd_open(int(entry.name))
            if _bears(entry.name, mark):
                found.append(descriptor)
            else:
                os.close(descriptor)
    return found


def _bears(pid: str, mark: bytes) -> bool:
    try:
        return mark in Path("/proc", pid, "environ").read_bytes().split(b"\0")
    except OSError:
        return False


def _signal(descriptors: list[int], number: signal.Signals) -> None:
    for descriptor in descriptors:
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(descriptor, number)


def _wait(descriptors: list[int], timeout_s: float) -> list[int]:
    """Those that still run after `timeout_s`, or none as soon as all have ended."""
    poll = select.poll()
    running = set(descriptors)
    for descriptor in running:
        poll.register(descriptor, select.POLLIN)
    until = time.monotonic() + timeout_s
    while running and (left := until - time.monotonic()) > 0:
        for descriptor, _ in poll.poll(left * 1000):
            poll.unregister(descriptor)
            running.discard(descriptor)
    return sorted(running)
