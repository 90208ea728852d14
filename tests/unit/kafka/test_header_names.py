"""A header whose name is no text is read with U+FFFD, and no record is lost over it."""

import struct
import time

import pytest
from aiokafka import TopicPartition
from aiokafka.consumer import fetcher
from aiokafka.consumer.fetcher import PartitionRecords
from aiokafka.errors import CorruptRecordException, KafkaError
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.record.util import calc_crc32c

from shared.kafka import topic_status
from shared.kafka.header_names import LONG_RECORD_BYTES, TolerantRecords
from shared.kafka.reader import to_record
from shared.kafka.records import MOST_HEADERS, Record
from shared.settings import KafkaSettings

GZIP = 1
LOG_APPEND_TIME = 8
READ_COMMITTED = 1


def batch(first: int, names: list[str], *, codec: int = 0, producer: int = -1, marker: bytes = b"~") -> bytes:
    """One record for each name of a header, in which markers become bytes that are no text."""
    builder = DefaultRecordBatchBuilder(2, codec, producer >= 0, producer, 0, 0, 1_000_000)
    for number, name in enumerate(names):
        builder.append(
            number, 1_000 + number, b"k", f"v{first + number}".encode(), [(name, b"x"), ("n", None)]
        )
    built = bytearray(builder.build())
    if not codec:
        built = built.replace(marker, b"\xff" * len(marker))
    struct.pack_into(">q", built, 0, first)
    return sealed(built)


def sealed(built: bytearray) -> bytes:
    """A batch with the checksum of what it holds."""
    struct.pack_into(">I", built, 17, calc_crc32c(bytes(built[21:])))
    return bytes(built)


def long_record(headers: int, *, last: str = "", value: bytes = b"v") -> bytes:
    """A batch of one record with so many headers, the last of them with that name."""
    builder = DefaultRecordBatchBuilder(2, 0, 0, -1, -1, 0, 10_000_000)
    builder.append(0, 1_000, b"k", value, [("", b"")] * (headers - 1) + [(last, b"")])
    return sealed(bytearray(builder.build()).replace(b"~", b"\xff"))


def unread(
    data: bytes, aborted: list[tuple[int, int]] | None = None, fetch_offset: int = 0
) -> PartitionRecords:
    return PartitionRecords(
        TopicPartition("t", 0), TolerantRecords(data), aborted, fetch_offset, None, None, True, READ_COMMITTED
    )


def records_of(data: bytes) -> list[Record]:
    return [to_record(raw) for raw in unread(data)]


def read(
    data: bytes, aborted: list[tuple[int, int]] | None = None, fetch_offset: int = 0
) -> list[tuple[int, str]]:
    records = unread(data, aborted, fetch_offset)
    found = [(each.offset, each.headers[0][0]) for each in map(to_record, records)]
    assert records.next_fetch_offset == 6
    return found


def test_every_record_is_read_once_and_in_its_order() -> None:
    data = batch(0, ["a", "~b", "c"]) + batch(3, ["é", "~~", "f"])
    assert read(data) == [(0, "a"), (1, "\ufffdb"), (2, "c"), (3, "é"), (4, "\ufffd\ufffd"), (5, "f")]


def test_reading_goes_on_where_it_had_been() -> None:
    assert read(batch(0, ["a", "b", "~", "d", "e", "f"]), fetch_offset=2) == [
        (2, "\ufffd"), (3, "d"), (4, "e"), (5, "f"),
    ]  # fmt: skip


def test_what_was_aborted_stays_unread() -> None:
    data = batch(0, ["a", "b", "c"], producer=7) + batch(3, ["~", "e", "f"])
    assert read(data, aborted=[(7, 0)]) == [(3, "\ufffd"), (4, "e"), (5, "f")]


def test_compressed_batches_beside_it_are_read() -> None:
    data = batch(0, ["~", "b", "c"]) + batch(3, ["d", "e", "f"], codec=GZIP)
    assert [name for _, name in read(data)] == ["\ufffd", "b", "c", "d", "e", "f"]


def test_a_batch_that_was_damaged_on_its_way_is_refused() -> None:
    data = bytearray(batch(0, ["~"]))
    data[-1] ^= 1
    with pytest.raises(CorruptRecordException):
        read(bytes(data))


def test_the_time_of_the_broker_counts_where_it_sets_it() -> None:
    data = bytearray(batch(0, ["~", "b", "c", "d", "e", "f"]))
    struct.pack_into(">hiqq", data, 21, LOG_APPEND_TIME, 5, 1_000, 7_000)
    assert {each.timestamp_ms for each in records_of(sealed(data))} == {7_000}


def test_a_record_with_too_many_headers_is_read_with_one_more_than_the_limit() -> None:
    [found] = records_of(long_record(MOST_HEADERS + 2, value=b"v" * LONG_RECORD_BYTES))
    assert len(found.headers) == MOST_HEADERS + 1
    assert found.value == b"v" * LONG_RECORD_BYTES
    [found] = records_of(long_record(MOST_HEADERS, value=b"v" * LONG_RECORD_BYTES))
    assert len(found.headers) == MOST_HEADERS


def test_what_lies_behind_it_is_read() -> None:
    builder = DefaultRecordBatchBuilder(2, 0, 0, -1, -1, 0, 10_000_000)
    for number, count in enumerate([3, 600_000, 2]):
        builder.append(number, 1_000, b"k", str(number).encode(), [("", b"")] * count)
    found = records_of(bytes(builder.build()))
    assert [(each.offset, each.value, len(each.headers)) for each in found] == [
        (0, b"0", 3), (1, b"1", MOST_HEADERS + 1), (2, b"2", 2),
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["", "~"])
def test_headers_by_the_hundred_thousand_do_not_take_the_event_loop_long(name: str) -> None:
    """All of them would take it 0.3 s, and 0.7 s where one name is no text."""
    data = long_record(600_000, last=name)
    took = []
    for _ in range(5):
        began = time.thread_time()
        [found] = records_of(data)
        took.append(time.thread_time() - began)
        assert len(found.headers) == MOST_HEADERS + 1
    assert min(took) < 0.02


def test_names_that_are_no_text_do_not_take_it_long_either() -> None:
    """Records before it are passed over, not read again."""
    names = ["x"] * 5_000 + ["~~~~"] + ["x"] * 5_000
    data = batch(0, names, marker=b"~~~~")
    slowest = 0.0
    records = unread(data)
    for _ in range(10_001):
        began = time.thread_time()
        next(records)
        slowest = max(slowest, time.thread_time() - began)
    assert slowest < 0.02


@pytest.mark.parametrize("name", ["~", "a"])
def test_a_record_says_whose_time_it_has(name: str) -> None:
    """Whether or not its batch is one that the client library can read."""
    data = bytearray(batch(0, [name]))
    assert not records_of(bytes(data))[0].log_append_time
    struct.pack_into(">h", data, 21, LOG_APPEND_TIME)
    assert records_of(sealed(data))[0].log_append_time


async def test_the_view_of_the_topics_reads_them_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """It looks at the oldest unfinished records, and may run in a process that reads nothing else."""
    monkeypatch.setattr(fetcher, "MemoryRecords", MemoryRecords)
    with pytest.raises(KafkaError):
        await topic_status.show(KafkaSettings(kafka="127.0.0.1:1"))
    assert fetcher.MemoryRecords is TolerantRecords
