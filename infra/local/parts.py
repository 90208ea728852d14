"""What a part of the local system is: one process that can be asked whether it works."""

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

__all__ = ["MARK", "Launch", "Part", "answers_http", "environment", "opens"]

MARK: Final = "CONSUMA_STACK"
"""Names, in the environment of every process, the data directory that it belongs to."""

PROBE_TIMEOUT_S: Final = 2.0


@dataclass(frozen=True, slots=True)
class Launch:
    """One start of a part."""

    command: Sequence[str]
    works: Callable[[], Awaitable[bool]]
    """Whether the started process does its work; False, never an error, while it does not."""

    environment: Mapping[str, str] = field(default_factory=dict)
    url: str = ""


class Part(Protocol):
    """Something to be kept running."""

    @property
    def name(self) -> str:
        """Unique in the system."""

    @property
    def stop_s(self) -> float:
        """How long it may take to stop after SIGTERM."""

    @property
    def death_signal(self) -> signal.Signals:
        """What ends it when its supervisor has died."""

    def launch(self) -> Launch:
        """How to start it now."""


def environment(data_dir: Path, extra: Mapping[str, str]) -> dict[str, str]:
    """This process's environment with the mark and `extra`."""
    return {**os.environ, **extra, MARK: str(data_dir)}


async def opens(port: int) -> bool:
    """Whether somebody accepts connections on `port`."""
    try:
        async with asyncio.timeout(PROBE_TIMEOUT_S):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.close()
            await writer.wait_closed()
    except OSError:
        return False
    return True


async def answers_http(port: int, path: str) -> bool:
    """Whether a GET of `path` is answered with 200."""
    try:
        async with asyncio.timeout(PROBE_TIMEOUT_S):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                writer.write(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n".encode())
                status = await reader.readline()
            finally:
                writer.close()
    except OSError:
        return False
    return status.split()[1:2] == [b"200"]
