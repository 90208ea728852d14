"""The journal tells which records were held at a death, whatever the death has left half-written."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.kafka.crash_journal import ENTRIES, CrashJournal, HeldRecord
from shared.kafka.records import Partition, Record
from tests.unit.kafka.support import journal, record


def recovered(directory: Path, identity: str = "i") -> list[HeldRecord]:
    found = journal(directory, identity)
    found.close()
    return list(found.recovered.values())


def test_held_records_are_found_by_the_next_life(tmp_path: Path) -> None:
    first = journal(tmp_path)
    cleared = first.write(record(1), 1)
    first.write(record(2, timestamp_ms=77), 2)
    assert cleared is not None
    first.clear(cleared)
    first.close()
    assert recovered(tmp_path) == [HeldRecord(Partition("t", 0), 2, 77, 2)]
    assert recovered(tmp_path) == [HeldRecord(Partition("t", 0), 2, 77, 2)], "until they are cleared"


def test_a_cleared_entry_of_the_last_life_is_gone(tmp_path: Path) -> None:
    first = journal(tmp_path)
    first.write(record(5), 1)
    first.close()
    second = journal(tmp_path)
    (entry,) = second.recovered
    second.clear(entry)
    assert not second.recovered
    second.close()
    assert recovered(tmp_path) == []


def test_another_instance_group_or_cluster_finds_nothing(tmp_path: Path) -> None:
    first = journal(tmp_path, "compute-0 of one cluster")
    first.write(record(5), 1)
    first.close()
    assert recovered(tmp_path, "compute-0 of another") == []
    assert recovered(tmp_path, "compute-0 of one cluster") == [], "the file is the other one's now"


def test_two_living_processes_never_share_it(tmp_path: Path) -> None:
    first = journal(tmp_path)
    with pytest.raises(BlockingIOError):
        journal(tmp_path)
    first.close()
    journal(tmp_path).close()


def test_more_records_than_entries_are_not_blamed(tmp_path: Path) -> None:
    full = journal(tmp_path)
    entries = [full.write(record(offset), 1) for offset in range(ENTRIES + 1)]
    assert entries[-1] is None
    assert None not in entries[:-1]
    full.clear(entries[0] or 0)
    assert full.write(record(9_999), 1) == entries[0]
    full.close()


def test_the_longest_name_of_a_topic_fits(tmp_path: Path) -> None:
    name = "t" * 249
    first = journal(tmp_path)
    first.write(Record(name, 2**31 - 1, 2**62, 2**62, None, None), 3)
    first.close()
    assert recovered(tmp_path) == [HeldRecord(Partition(name, 2**31 - 1), 2**62, 2**62, 3)]


@given(damage=st.lists(st.tuples(st.integers(0, 40_000), st.integers(0, 255)), max_size=30))
def test_damage_never_invents_a_record(
    tmp_path_factory: pytest.TempPathFactory, damage: list[tuple[int, int]]
) -> None:
    directory = tmp_path_factory.mktemp("damaged")
    first = journal(directory)
    written = {offset: HeldRecord(Partition("t", 0), offset, 1_000, 1) for offset in range(100)}
    for offset in written:
        first.write(record(offset), 1)
    first.close()
    file = directory / "test.journal"
    data = bytearray(file.read_bytes())
    for at, byte in damage:
        data[at] = byte
    file.write_bytes(data)
    assert all(written.get(held.offset) == held for held in recovered(directory))


def test_a_torn_entry_counts_as_absent(tmp_path: Path) -> None:
    """A process can be killed between any two of the bytes that it writes."""
    whole = journal(tmp_path)
    whole.write(record(5), 1)
    image = bytes(whole._map)
    blank = journal_image(tmp_path / "blank")
    changed = [at for at in range(len(image)) if image[at] != blank[at]]
    held_at, body = changed[0], changed[1:]
    whole.close()
    for cut in range(len(body)):
        torn = bytearray(blank)
        for at in body[:cut]:
            torn[at] = image[at]
        torn[held_at] = 1  # the worst order that a disk may have written them in
        (tmp_path / "test.journal").write_bytes(torn)
        assert recovered(tmp_path) == []


def journal_image(directory: Path) -> bytes:
    directory.mkdir()
    empty: CrashJournal = journal(directory)
    image = bytes(empty._map)
    empty.close()
    return image
