"""The processes below a process, as the kernel lists them: found, measured, killed; and their files."""

import os
import secrets
import signal
import stat
import time
from contextlib import suppress
from typing import Final

__all__ = [
    "children",
    "descendants",
    "directory_bytes",
    "has_children",
    "kill",
    "kill_all_below",
    "kill_descendants",
    "memory_bytes",
    "remove_directory",
]

PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")
PAUSE_S: Final = 0.001
MOST_ENTRIES: Final = 10_000
"""Files and directories of one tree that are counted; who has more is over every limit."""

MOST_REMOVED: Final = 1_000_000
"""Steps of one removal: an operation can make so many files, and may go on while they are removed."""
WAIT_ALL: Final = 0x40000000
"""`__WALL` of wait(2): children that end without SIGCHLD as well."""


def children(pid: int) -> set[int]:
    """Direct children of every thread of `pid`; none when it is gone or the kernel keeps no such list."""
    found: set[int] = set()
    with suppress(OSError):
        for thread in os.listdir(f"/proc/{pid}/task"):
            with suppress(OSError), open(f"/proc/{pid}/task/{thread}/children") as file:
                found.update(map(int, file.read().split()))
    return found


def has_children() -> bool:
    """Whether any thread of this process has a child, ended or not."""
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT | WAIT_ALL)
    except ChildProcessError:
        return False
    return True


def descendants(pid: int) -> set[int]:
    """Every process below `pid`, whatever its group or session."""
    found: set[int] = set()
    unvisited = [pid]
    while unvisited:
        new = children(unvisited.pop()) - found
        found |= new
        unvisited += new
    return found


def kill(pid: int) -> None:
    """SIGKILL, if there is such a process and it may be killed."""
    with suppress(ProcessLookupError, PermissionError):
        os.kill(pid, signal.SIGKILL)


def kill_all_below(within_s: float) -> bool:
    """SIGKILL all below this process, a subreaper, and reap it; whether nobody is left within `within_s`.

    A walk from parent to child misses a process that moves up meanwhile, because its parent has died, however
    often it is repeated. The kernel's word that there is no child to wait for misses nobody: whoever lost a
    parent is a child of this process at that moment.
    """
    give_up_at = time.monotonic() + within_s
    while _reap_children():
        if time.monotonic() >= give_up_at:
            return False
        for each in descendants(os.getpid()):
            kill(each)
        time.sleep(PAUSE_S)
    return True


def _reap_children() -> bool:
    """Reap every child that has ended; whether there are others."""
    try:
        while os.waitpid(-1, os.WNOHANG | WAIT_ALL)[0]:
            pass
    except ChildProcessError:
        return False
    return True


def kill_descendants(pid: int, within_s: float) -> int:
    """SIGKILL all below `pid`, which is stopped; returns how many live on after `within_s`.

    Two looks that find the same, all of it dead, miss nobody: the dead have passed their children on to a
    living reaper before the second look, and a stopped process reaps none of them.
    """
    give_up_at = time.monotonic() + within_s
    alive, found, last = {pid}, {pid}, set[int]()
    while (alive or found != last) and time.monotonic() < give_up_at:
        last, found = found, descendants(pid)
        alive = {each for each in found if _is_alive(each)}
        for each in alive:
            kill(each)
        time.sleep(PAUSE_S)
    return len(alive)


def _is_alive(pid: int) -> bool:
    with suppress(OSError), open(f"/proc/{pid}/stat", "rb") as file:
        return file.read().rpartition(b")")[2].split()[0] not in (b"Z", b"X")
    return False


def memory_bytes(pids: set[int], enough: int) -> int:
    """Memory of all `pids`, mapped shared memory included.

    The quick sum counts shared pages for each process, so it is never below the truth. Only where it is above
    `enough` is the exact one taken, which costs a walk through the page tables.
    """
    quick = sum(_resident_bytes(pid) for pid in pids)
    return quick if quick <= enough else sum(_proportional_bytes(pid) for pid in pids)


def _resident_bytes(pid: int) -> int:
    with suppress(OSError), open(f"/proc/{pid}/statm") as file:
        return int(file.read().split()[1]) * PAGE_BYTES
    return 0


def _proportional_bytes(pid: int) -> int:
    """Memory of one process, each shared page divided by the number of its users."""
    with suppress(OSError), open(f"/proc/{pid}/smaps_rollup") as file:
        return sum(int(line.split()[1]) * 1024 for line in file if line.startswith("Pss:"))
    return 0


def directory_bytes(path: str) -> int | None:
    """Disk space of all files below `path`; None when they are too many, or lie too deep, to be counted."""
    total = entries = 0
    unvisited = [path]
    while unvisited:
        try:
            found = _entries(unvisited.pop())
        except FileNotFoundError:
            continue
        except OSError:  # a path that is too long, or a directory that its owner has closed
            return None
        entries += len(found)
        if entries > MOST_ENTRIES:
            return None
        for entry in found:
            if entry.is_dir(follow_symlinks=False):
                unvisited.append(entry.path)
            else:
                with suppress(OSError):
                    total += entry.stat(follow_symlinks=False).st_blocks * 512
    return total


def remove_directory(path: str) -> None:
    """Remove `path` and all below it, however deep; a directory that is written to meanwhile may stay.

    A full directory hands its entries up before it is removed, so that no path gets long.
    """
    removed, total = 1, 0
    with suppress(OSError):
        while removed and total < MOST_REMOVED:
            removed = sum(_remove(entry, path) for entry in _entries(path))
            total += removed
        os.rmdir(path)


def _remove(entry: os.DirEntry[str], root: str) -> bool:
    with suppress(OSError):
        if entry.is_dir(follow_symlinks=False):
            os.chmod(entry.path, stat.S_IRWXU)
            for each in _entries(entry.path):
                os.rename(each.path, f"{root}/{secrets.token_hex(8)}")
            os.rmdir(entry.path)
        else:
            os.unlink(entry.path)
        return True
    return False


def _entries(path: str) -> list[os.DirEntry[str]]:
    with os.scandir(path) as found:
        return list(found)
