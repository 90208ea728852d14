"""A header whose name is no text is read with question marks, and no record is lost over it."""

import struct

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import CorruptRecordException
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.util import calc_crc32c

from shared.kafka.header_names import _KeptRecords, _PartitionRecords, mend
from shared.kafka.reader import to_record

GZIP = 1
READ_COMMITTED = 1


def batch(first: int, names: list[str], *, codec: int = 0, producer: int = -1) -> bytes:
    """One record for each name of a header, whose `~` become bytes that are no text."""
    builder = DefaultRecordBatchBuilder(2, codec, producer >= 0, producer, 0, 0, 1_000_000)
    for number, name in enumerate(names):
        builder.append(
            number, 1_000 + number, b"k", f"v{first + number}".encode(), [(name, b"x"), ("n", None)]
        )
    built = bytearray(builder.build())
    if not codec:
        built = built.replace(b"~", b"\xff")
    struct.pack_into(">q", built, 0, first)
    struct.pack_into(">I", built, 17, calc_crc32c(bytes(built[21:])))
    return bytes(built)


def read(
    data: bytes, aborted: list[tuple[int, int]] | None = None, fetch_offset: int = 0
) -> list[tuple[int, str]]:
    source = TopicPartition("t", 0)
    records = _PartitionRecords(
        source, _KeptRecords(data), aborted, fetch_offset, None, None, True, READ_COMMITTED
    )
    found = [(each.offset, each.headers[0][0]) for each in map(to_record, records)]
    assert records.next_fetch_offset == 6
    return found


def test_every_record_is_read_once_and_in_its_order() -> None:
    data = batch(0, ["a", "~b", "c"]) + batch(3, ["é", "~~", "f"])
    assert read(data) == [(0, "a"), (1, "?b"), (2, "c"), (3, "é"), (4, "??"), (5, "f")]


def test_reading_goes_on_where_it_had_been() -> None:
    assert read(batch(0, ["a", "b", "~", "d", "e", "f"]), fetch_offset=2) == [
        (2, "?"), (3, "d"), (4, "e"), (5, "f"),
    ]  # fmt: skip


def test_what_was_aborted_stays_unread() -> None:
    data = batch(0, ["a", "b", "c"], producer=7) + batch(3, ["~", "e", "f"])
    assert read(data, aborted=[(7, 0)]) == [(3, "?"), (4, "e"), (5, "f")]


def test_compressed_batches_beside_it_are_read() -> None:
    data = batch(0, ["~", "b", "c"]) + batch(3, ["d", "e", "f"], codec=GZIP)
    assert [name for _, name in read(data)] == ["?", "b", "c", "d", "e", "f"]


def test_a_batch_that_was_damaged_on_its_way_is_refused() -> None:
    data = bytearray(batch(0, ["a"]))
    data[-1] ^= 1
    with pytest.raises(CorruptRecordException):
        mend(bytes(data))
