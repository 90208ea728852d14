"""The log files of the parts: bounded, and watched for what a person should know.

A part writes to its file itself, so that it never waits for its supervisor. A file that has grown is copied
aside and emptied in place, since the part keeps it open; both halves together are all that is kept.
"""

import json
import shutil
import time
from pathlib import Path
from typing import Final

__all__ = ["LogFile", "brief", "complaint"]

SHOWN_LEVELS: Final = ("warning", "error", "critical")
ROUTINE: Final = "Heartbeat failed for group"
"""What the client library warns of whenever another member has joined."""

SHOWN_PLAIN: Final = (" ERROR ", " FATAL ", "[ERROR]")
LINES_PER_PERIOD: Final = 4
PERIOD_S: Final = 10.0
BRIEF_CHARS: Final = 360
TAIL_BYTES: Final = 16 * 1024
READ_BYTES: Final = 1024 * 1024
HIDDEN_FIELDS: Final = {"event", "level", "timestamp", "instance", "exception", "logger"}
TOLD_FIRST: Final = ("error", "message", "reason", "hint")
"""Long lines are cut."""


class LogFile:
    """The file of one part."""

    def __init__(self, path: Path, limit_bytes: int) -> None:
        self.path = path
        self._limit_bytes = limit_bytes
        self._position = path.stat().st_size if path.exists() else 0
        self._rest = b""
        self._period_began = 0.0
        self._shown = self._held_back = 0

    def news(self) -> list[str]:
        """What has been written since the last call and should be shown, in a few short lines."""
        found = [shown for line in self._new_lines() if (shown := brief(line))]
        self._rotate()
        return self._limited(found)

    def complaint(self) -> str:
        """What most likely tells why the part has ended."""
        return complaint(self.path)

    def _new_lines(self) -> list[str]:
        if not self.path.exists():
            return []
        with self.path.open("rb") as file:
            file.seek(self._position)
            found = file.read(READ_BYTES)
        self._position += len(found)
        *lines, self._rest = (self._rest + found).split(b"\n")
        return [line.decode(errors="replace") for line in lines]

    def _rotate(self) -> None:
        """Only when all has been read; a line written between copy and cut is lost to the file."""
        if self._position >= self._limit_bytes and self._position == self.path.stat().st_size:
            shutil.copyfile(self.path, self.path.with_name(self.path.name + ".1"))
            with self.path.open("r+b") as file:
                file.truncate(0)
            self._position = 0

    def _limited(self, lines: list[str]) -> list[str]:
        """A storm must not bury the terminal."""
        now = time.monotonic()
        shown = []
        if now - self._period_began > PERIOD_S:
            if self._held_back:
                shown.append(f"… and {self._held_back} more warnings in {self.path}")
            self._period_began, self._shown, self._held_back = now, 0, 0
        room = LINES_PER_PERIOD - self._shown
        self._held_back += max(0, len(lines) - room)
        self._shown += len(lines[:room])
        return shown + lines[:room]


def complaint(path: Path, *, first: bool = False) -> str:
    """The last (or first) line at a log's end that speaks of an error, else its last line."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - TAIL_BYTES))
            lines = file.read().decode(errors="replace").strip().splitlines()
    except FileNotFoundError:
        return ""
    errors = [line for line in lines if "error" in line.lower()] or lines[-1:] or [""]
    found = errors[0 if first else -1]
    return brief(found) or found[:BRIEF_CHARS]


def brief(line: str) -> str:
    """A log line for the terminal, or nothing when it is not worth it."""
    if line.startswith("{"):
        try:
            entry = json.loads(line)
        except ValueError:
            return ""
        if entry.get("level") not in SHOWN_LEVELS or str(entry.get("event")).startswith(ROUTINE):
            return ""
        told = sorted(entry.keys() - HIDDEN_FIELDS - set(TOLD_FIRST), key=list(entry).index)
        names = [*(each for each in TOLD_FIRST if entry.get(each)), *told]
        fields = " ".join(f"{name}={entry[name]}" for name in names)
        return f"{entry['level']}: {entry.get('event')} {fields}".strip()[:BRIEF_CHARS]
    return line[:BRIEF_CHARS] if any(each in line for each in SHOWN_PLAIN) else ""
