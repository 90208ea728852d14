"""Reading records whose headers have names that are no text.

The broker takes any bytes as the name of a header. The client library decodes them strictly, and fails for
the whole partition: one such record would stop its every reader for ever. Here such a name is read with a
question mark for each byte that is no text, and nothing else is changed.
"""

from collections.abc import Iterator, Sequence
from struct import pack_into
from typing import Final, Self

from aiokafka.consumer import fetcher
from aiokafka.errors import CorruptRecordException
from aiokafka.record.default_records import DefaultRecordBatch, _DefaultRecordBatchPy
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.record.util import decode_varint

__all__ = ["read_any_header_names"]

LENGTH_AT: Final = 8
BODY_AT: Final = 12
"""Where the part of a batch begins that its length counts."""

ATTRIBUTES_AT: Final = 21
HEADER_BYTES: Final = 61
MAGIC_AT: Final = 16
MAGIC: Final = 2
CODEC_MASK: Final = 0x07
ASCII_END: Final = 0x80


def read_any_header_names() -> None:
    """Have every consumer of this process read such records; to be called before one is made."""
    fetcher.MemoryRecords = _KeptRecords
    fetcher.PartitionRecords = _PartitionRecords


class _KeptRecords(MemoryRecords):  # type: ignore[misc]  # the client library is untyped
    """Fetched bytes that can be read a second time."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self.data = data


class _PartitionRecords(fetcher.PartitionRecords):  # type: ignore[misc]  # as above
    """Fetched records; from a name that cannot be read on, they are read anew with such names mended."""

    def __init__(
        self, source: object, records: _KeptRecords, aborted: Sequence[object] | None, *rest: object
    ) -> None:
        super().__init__(source, records, aborted, *rest)
        self._data = records.data
        self._aborted_at_first: list[object] = list(self._aborted_transactions)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> object:
        try:
            return super().__next__()
        except UnicodeDecodeError:
            self._read_anew(mend(self._data))
            return super().__next__()

    def _read_anew(self, data: bytes) -> None:
        """What was returned is not returned again: the offset to go on at is kept."""
        self._records = MemoryRecords(data)
        self._aborted_transactions = list(self._aborted_at_first)
        self._aborted_producers: set[object] = set()
        self._check_crcs = False  # done by `mend`, on the bytes as they came
        self._records_iterator = self._unpack_records()


def mend(data: bytes) -> bytes:
    """Fetched batches, uncompressed, with a question mark for each byte of a header's name that is no text.

    Raises:
        CorruptRecordException: a batch is not as it was written.
    """
    return b"".join(_mend_batch(batch) for batch in _batches(data))


def _batches(data: bytes) -> Iterator[bytes]:
    """Each complete batch."""
    at = 0
    while at + BODY_AT <= len(data):
        end = at + BODY_AT + int.from_bytes(data[at + LENGTH_AT : at + BODY_AT], "big")
        if end > len(data):
            return
        yield bytes(data[at:end])
        at = end


def _mend_batch(batch: bytes) -> bytes:
    if batch[MAGIC_AT] != MAGIC:  # older formats know no headers
        return batch
    if not DefaultRecordBatch(batch).validate_crc():
        raise CorruptRecordException("Invalid CRC")
    parsed = _DefaultRecordBatchPy(batch)
    if parsed.is_control_batch:
        return batch
    parsed._maybe_uncompress()
    payload = bytearray(parsed._buffer[parsed._pos :])
    for begin, end in _names(payload):
        payload[begin:end] = _as_text(bytes(payload[begin:end]))
    header = bytearray(batch[:HEADER_BYTES])
    pack_into(">i", header, LENGTH_AT, HEADER_BYTES - BODY_AT + len(payload))
    pack_into(">h", header, ATTRIBUTES_AT, parsed.attributes & ~CODEC_MASK)
    return bytes(header + payload)


def _names(payload: bytearray) -> Iterator[tuple[int, int]]:
    """Where the names of headers lie in uncompressed records."""
    at = 0
    while at < len(payload):
        length, at = decode_varint(payload, at)
        end = at + length
        at += 1  # attributes
        for _ in ("timestamp", "offset"):
            _, at = decode_varint(payload, at)
        for _ in ("key", "value"):
            at = _past(payload, at)
        count, at = decode_varint(payload, at)
        for _ in range(count):
            size, begin = decode_varint(payload, at)
            yield begin, begin + size
            at = _past(payload, begin + size)
        at = end


def _past(payload: bytearray, at: int) -> int:
    """The position after the bytes, if there are any, whose length stands at `at`."""
    size: int
    size, at = decode_varint(payload, at)
    return at + max(size, 0)


def _as_text(name: bytes) -> bytes:
    """`name` in as many bytes, all of them text."""
    try:
        name.decode()
    except UnicodeDecodeError:
        return bytes(byte if byte < ASCII_END else ord("?") for byte in name)
    return name
