"""What operations print: read as it comes, so that printing never blocks for long; kept up to a limit."""

import asyncio
import fcntl
import os
from contextlib import suppress
from typing import Final

__all__ = ["OutputTap"]

KEPT_BYTES: Final = 8 * 1024
CHUNK_BYTES: Final = 64 * 1024
"""Capacity of a pipe, so one read empties it."""

FLOOD_BYTES: Final = 1024 * 1024
"""Capacity of a pipe whose output is thrown away, the most that a user may ask for; one splice empties it."""

PAUSE_S: Final = 0.001
"""Between reads of what is thrown away: endless printing must not keep the event loop busy."""


class OutputTap:
    """The reading end of a slot's output pipe. Owns `descriptor`.

    The first 8 KiB since the last `take` are kept, the rest is counted.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._loop = asyncio.get_running_loop()
        self._kept = bytearray()
        self._dropped = 0
        self._null: int | None = None
        self._pause: asyncio.TimerHandle | None = None
        self._open = True
        os.set_blocking(descriptor, False)
        self._loop.add_reader(descriptor, self._on_readable)

    def forget(self) -> None:
        """Drop what came between two tasks: it belongs to none."""
        self._kept.clear()
        self._dropped = 0

    def take(self) -> tuple[str, int]:
        """What has been printed since the last call, and how many bytes are missing at its end."""
        if self._open:
            self._read()
        text, dropped = self._kept.decode("utf-8", "replace"), self._dropped
        self.forget()
        return text, dropped

    def close(self) -> None:
        """Read what is left and let go of the pipe; what was read can still be taken."""
        if self._open:
            self._read()
            self._open = False
            self._stop_reading()
            os.close(self._descriptor)
            if self._null is not None:
                os.close(self._null)

    def _on_readable(self) -> None:
        if not self._read():
            self._stop_reading()
        elif self._dropped:
            self._stop_reading()
            self._pause = self._loop.call_later(
                PAUSE_S, self._loop.add_reader, self._descriptor, self._on_readable
            )

    def _read(self) -> bool:
        """Whether there may ever be more."""
        with suppress(BlockingIOError):
            if self._dropped:
                return self._drop()
            chunk = os.read(self._descriptor, CHUNK_BYTES)
            room = KEPT_BYTES - len(self._kept)
            self._kept += chunk[:room]
            self._dropped += max(0, len(chunk) - room)
            return bool(chunk)
        return True

    def _drop(self) -> bool:
        """Throw away what is in the pipe, uncopied."""
        if self._null is None:
            self._null = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
            with suppress(OSError):  # a user may own so many pages of pipes; then it stays small
                fcntl.fcntl(self._descriptor, fcntl.F_SETPIPE_SZ, FLOOD_BYTES)
        count = os.splice(self._descriptor, self._null, FLOOD_BYTES)
        self._dropped += count
        return count > 0

    def _stop_reading(self) -> None:
        self._loop.remove_reader(self._descriptor)
        if self._pause is not None:
            self._pause.cancel()
            self._pause = None
