"""What has to be so before anything is started, each with what to do when it is not."""

import fcntl
import os
import platform
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from infra.local.errors import LocalError
from infra.local.ports import holder, is_free

__all__ = ["own_directory", "require_platform", "require_port", "require_room"]

LOCK_NAME: Final = "up.lock"
DATA_BYTES: Final = 512 * 1024 * 1024


def require_platform(*, broker: bool, database: bool) -> None:
    """Raises LocalError where what is to be started cannot run."""
    if sys.platform != "linux":
        raise LocalError(
            "the local system needs Linux: processes are bound to their parent by its kernel; elsewhere run "
            "the services singly (consuma ingest, …) against a broker and a database of yours"
        )
    machine = platform.machine()
    if database and machine != "x86_64":
        raise LocalError(f"no database is published for {machine}: give one with --mysql URL")
    if broker and machine not in ("x86_64", "aarch64"):
        raise LocalError(f"no Java runtime is published for {machine}: give a broker with --kafka ADDRESS")


@contextmanager
def own_directory(data_dir: Path) -> Iterator[None]:
    """Hold `data_dir` alone; the lock ends with its holder, however that ends.

    Raises:
        LocalError: another process holds it, or it cannot be written.
    """
    try:
        (data_dir / "logs").mkdir(parents=True, exist_ok=True)
        lock = os.open(data_dir / LOCK_NAME, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise LocalError(
            f"the data directory {data_dir} cannot be written ({error}): choose another with --data-dir"
        ) from error
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise LocalError(
                f"consuma already runs on {data_dir} (pid {_holder(lock)}): use that one, end it, or choose "
                "another directory with --data-dir"
            ) from error
        with suppress(OSError):  # the name is a courtesy, which a full disk may not allow
            os.ftruncate(lock, 0)
            os.pwrite(lock, str(os.getpid()).encode(), 0)
        yield
    finally:
        os.close(lock)


def _holder(lock: int) -> str:
    return os.pread(lock, 32, 0).decode().strip() or "unknown"


def require_room(data_dir: Path) -> None:
    """Raises LocalError when the disk of `data_dir` is nearly full."""
    free = shutil.disk_usage(data_dir).free
    if free < DATA_BYTES:
        raise LocalError(
            f"the disk of {data_dir} has {free >> 20} MiB free, {DATA_BYTES >> 20} are the least: make room, "
            "or choose a directory on another disk with --data-dir"
        )


def require_port(port: int, what: str, option: str) -> None:
    """Raises LocalError when `port` is taken; 0 is any free one."""
    if port and not is_free(port):
        raise LocalError(
            f"port {port}, for {what}, is taken by {holder(port)}: end that, or choose another with {option}"
        )
