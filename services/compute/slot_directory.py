"""The private directory of a consumer's slots: locked while it lives, and removed by the next if it is left.

The kernel lets go of a lock when its holder dies of whatever reason, so a directory whose lock is free has no
consumer. The lock appears in its place already held, and a directory without one is never touched.
"""

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

from services.compute.slot_tree import remove_directory

__all__ = ["SlotDirectory", "remove_abandoned", "remove_slot_directory"]

PREFIX: Final = "consuma-slots-"
LOCK: Final = "lock"


class SlotDirectory:
    """A new directory at `path`, which belongs to this process until it is removed."""

    def __init__(self) -> None:
        self.path = tempfile.mkdtemp(prefix=PREFIX)
        unlocked = f"{self.path}/{LOCK}.new"
        self._lock: int | None = os.open(unlocked, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.rename(unlocked, f"{self.path}/{LOCK}")

    def remove(self) -> None:
        """Remove it with all that is in it, and let go of the lock; takes as long as there are files."""
        remove_slot_directory(self.path)
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def remove_slot_directory(path: str) -> None:
    """Remove it, the lock last: a removal that is cut short leaves a directory that can still be found."""
    with suppress(OSError), os.scandir(path) as entries:
        for entry in [each for each in entries if each.name != LOCK]:
            remove_directory(entry.path)
    remove_directory(path)


def remove_abandoned() -> None:
    """Remove the directories of consumers of this user that are gone; takes as long as there are files."""
    paths: list[str] = []
    with suppress(OSError), os.scandir(tempfile.gettempdir()) as entries:  # it may not be for us to list
        paths += [entry.path for entry in entries if entry.name.startswith(PREFIX) and _is_own(entry)]
    for path in paths:
        with _held(f"{path}/{LOCK}") as held:
            if held:
                remove_slot_directory(path)


def _is_own(entry: os.DirEntry[str]) -> bool:
    with suppress(OSError):
        is_directory, found = entry.is_dir(follow_symlinks=False), entry.stat(follow_symlinks=False)
        return is_directory and found.st_uid == os.geteuid()
    return False


@contextmanager
def _held(path: str) -> Iterator[bool]:
    """Whether this process holds the lock at `path` meanwhile, and no other has removed it."""
    try:
        lock = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:  # none, or not a lock
        yield False
        return
    try:
        yield _take(lock, path)
    finally:
        os.close(lock)


def _take(lock: int, path: str) -> bool:
    with suppress(OSError):
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return os.path.samestat(os.fstat(lock), os.lstat(path))
    return False
