"""Reading records whose headers the client library cannot read, or not in a short time.

The broker takes any bytes as the name of a header, and hundreds of thousands of headers. The library decodes
names strictly and fails for the whole partition: one such record would stop its every reader for ever. Here
bytes of a name that are no text become U+FFFD. And it makes every header an object, in one go: 600,000 empty
ones fit a record of 1.2 MB and would take the event loop 0.3 s. Of a long record, here those beyond
`MOST_HEADERS` + 1 are left out, so that whoever counts them sees that there are too many.

Any other batch is read by the library's compiled parser.
"""

from collections.abc import Iterator
from typing import Any, Final

from aiokafka.consumer import fetcher
from aiokafka.errors import CorruptRecordException
from aiokafka.record.default_records import _DefaultRecordBatchPy, _DefaultRecordPy
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.record.util import decode_varint

from shared.kafka.records import MOST_HEADERS

__all__ = ["read_any_header_names"]

LENGTH_AT: Final = 8
BODY_AT: Final = 12
"""Where the part of a batch begins that its length counts."""

MAGIC_AT: Final = 16
MAGIC: Final = 2
"""Older formats know no headers."""

LONG_RECORD_BYTES: Final = 16 * 1024
"""Half as many headers, the most that a shorter record can have, take the library 4 ms."""


def read_any_header_names() -> None:
    """Have every consumer of this process read such records; to be called before one is made."""
    fetcher.MemoryRecords = TolerantRecords


class TolerantRecords(MemoryRecords):  # type: ignore[misc]  # the client library is untyped
    """Fetched bytes, batch by batch."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self._data = memoryview(data)
        self._at = 0

    def next_batch(self) -> Any:  # noqa: ANN401 - the client library is untyped
        """The next batch of the library, or what reads as one."""
        batch = super().next_batch()
        begin = self._at
        self._at += BODY_AT + int.from_bytes(self._data[begin + LENGTH_AT : begin + BODY_AT], "big")
        if batch is None or self._data[begin + MAGIC_AT] != MAGIC or batch.is_control_batch:
            return batch
        return _Batch(batch, self._data[begin : self._at])


class _Batch:
    """A batch of the library that goes on with the tolerant parser where the library's own fails."""

    def __init__(self, batch: Any, data: memoryview) -> None:  # noqa: ANN401 - the client library is untyped
        self._batch = batch
        self._data = data

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - what the library asks of a batch
        return getattr(self._batch, name)

    def __iter__(self) -> Iterator[object]:
        tolerant, read = _TolerantBatch(self._data), 0
        if not tolerant.has_long_record():
            try:
                for record in self._batch:
                    yield record
                    read += 1
            except UnicodeDecodeError:
                tolerant.skip(read)
            else:
                return
        yield from tolerant


class _TolerantBatch(_DefaultRecordBatchPy):  # type: ignore[misc]  # the client library is untyped
    """The library's parser in Python, with another way to read headers."""

    _pos: int

    def has_long_record(self) -> bool:
        """Whether a record is longer than `LONG_RECORD_BYTES`."""
        self._maybe_uncompress()
        at, end = self._pos, len(self._buffer)
        while end - at > LONG_RECORD_BYTES:
            length, at = decode_varint(self._buffer, at)
            if not 0 <= length <= LONG_RECORD_BYTES:
                return True
            at += length
        return False

    def skip(self, records: int) -> None:
        """Go on after the first `records`."""
        for _ in range(records):
            length, at = decode_varint(self._buffer, self._pos)
            self._pos = at + length
        self._next_record_index = records

    def _read_msg(self, *unused: object) -> _DefaultRecordPy:
        length, begin = decode_varint(self._buffer, self._pos)
        _, at = decode_varint(self._buffer, begin)  # attributes
        timestamp, at = decode_varint(self._buffer, at)
        offset, at = decode_varint(self._buffer, at)
        key, at = self._bytes(at)
        value, at = self._bytes(at)
        count, at = decode_varint(self._buffer, at)
        headers = []
        for _ in range(min(count, MOST_HEADERS + 1)):
            name, at = self._bytes(at)
            content, at = self._bytes(at)
            headers.append(((name or b"").decode(errors="replace"), content))
        self._pos = begin + length
        if at != self._pos and not (count > MOST_HEADERS and begin < at < self._pos):
            raise CorruptRecordException(f"a record of {length} bytes does not hold what it says")
        of_broker = self.timestamp_type == self.LOG_APPEND_TIME
        return _DefaultRecordPy(
            self.base_offset + offset,
            self.max_timestamp if of_broker else self.first_timestamp + timestamp,
            self.timestamp_type,
            key,
            value,
            headers,
        )

    def _bytes(self, at: int) -> tuple[bytes | None, int]:
        size, at = decode_varint(self._buffer, at)
        return (bytes(self._buffer[at : at + size]), at + size) if size >= 0 else (None, at)
