"""The records that may take this process down, written where a SIGKILL cannot erase them.

A file of the instance, mapped into memory: one entry per record that a slot has, or that the process decodes,
written before that and cleared after it, in about a microsecond and without a system call. The kernel keeps
the pages of a killed process, so the process that comes back under the same name reads there which records
were held at the death, and nothing else is blamed for it.

An entry's `held` byte is set last and cleared first, so a half-written entry counts as absent; a checksum
covers the rest against damage of the disk. The header names instance, group and cluster: entries of another
one are ignored.
"""

import fcntl
import hashlib
import mmap
import os
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from shared.kafka.records import Partition, Record

__all__ = ["CrashJournal", "HeldRecord"]

ENTRIES: Final = 256
"""Far more than slots can hold at once, with room for those of the last life."""

MAGIC: Final = b"consuma crash journal 1\n"
HEADER: Final = struct.Struct("<24s32s")
HEADER_BYTES: Final = 64
BODY: Final = struct.Struct("<IiqqB")
"""Attempt, partition, offset, timestamp in ms, bytes of the topic's name (a legal one has at most 249)."""

CHECKSUM: Final = struct.Struct("<I")
ENTRY_BYTES: Final = 288
FILE_BYTES: Final = HEADER_BYTES + ENTRIES * ENTRY_BYTES


@dataclass(frozen=True, slots=True)
class HeldRecord:
    """A record that was held at a death. `timestamp_ms` tells records of a re-created topic apart."""

    partition: Partition
    offset: int
    timestamp_ms: int
    attempt: int


class CrashJournal:
    """The entries of one process. Owns the file until `close`.

    Attributes:
        recovered: by entry, the records that the last life of this instance held at its death. Each stays in
            the file until it is cleared: a second death before that must not lose it.
    """

    def __init__(self, path: Path, identity: str) -> None:
        """Open the file, and make it where it is missing.

        Args:
            path: the file; its directory exists.
            identity: names instance, group and cluster.

        Raises:
            BlockingIOError: another living process holds the file.
            OSError: the file cannot be made here.
        """
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.posix_fallocate(self._file, 0, FILE_BYTES)  # a full disk fails here and not at a write
            self._map = mmap.mmap(self._file, FILE_BYTES)
        except BaseException:
            os.close(self._file)
            raise
        header = HEADER.pack(MAGIC, hashlib.sha256(identity.encode()).digest())
        if self._map[: HEADER.size] != header:
            self._map[:] = header.ljust(FILE_BYTES, b"\0")
        self.recovered = {entry: held for entry in range(ENTRIES) if (held := self._read(entry)) is not None}
        self._free = [entry for entry in reversed(range(ENTRIES)) if entry not in self.recovered]

    def write(self, record: Record, attempt: int) -> int | None:
        """Note that `record` is held for its run number `attempt`; returns the entry to clear.

        None when every entry is taken: a death is then not blamed on this record.
        """
        if not self._free:
            return None
        entry = self._free.pop()
        topic = record.topic.encode()
        body = (
            BODY.pack(attempt, record.partition, record.offset, record.timestamp_ms, len(topic) & 0xFF)
            + topic[:0xFF]
        )
        at = HEADER_BYTES + entry * ENTRY_BYTES
        data = CHECKSUM.pack(zlib.crc32(body)) + body
        self._map[at + 1 : at + 1 + len(data)] = data
        self._map[at] = 1
        return entry

    def clear(self, entry: int) -> None:
        """Note that the record of `entry` is held no more."""
        self._map[HEADER_BYTES + entry * ENTRY_BYTES] = 0
        self.recovered.pop(entry, None)
        self._free.append(entry)

    def close(self) -> None:
        """Let go of the file; its entries stay."""
        self._map.close()
        os.close(self._file)

    def _read(self, entry: int) -> HeldRecord | None:
        at = HEADER_BYTES + entry * ENTRY_BYTES
        if self._map[at] != 1:
            return None
        (checksum,) = CHECKSUM.unpack_from(self._map, at + 1)
        body_at = at + 1 + CHECKSUM.size
        attempt, number, offset, timestamp_ms, length = BODY.unpack_from(self._map, body_at)
        body_end = body_at + BODY.size + length
        if zlib.crc32(self._map[body_at:body_end]) != checksum:
            return None
        topic = self._map[body_at + BODY.size : body_end].decode(errors="replace")
        return HeldRecord(Partition(topic, number), offset, timestamp_ms, attempt)
