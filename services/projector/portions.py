"""Fetched records in portions that are interpreted, and written, one after the other. Pure."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

from shared.db.batches import Moves, cut_moves
from shared.kafka.records import Record

__all__ = ["Fetched", "portions"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetched:
    """Records, each partition's in the order of the log, and from where to where they bring it."""

    records: Sequence[Record]
    moves: Moves


def portions(fetched: Fetched, *, most_records: int, most_bytes: int) -> Iterator[Fetched]:
    """`fetched` in pieces of at most so many records, each ended by the record that passes `most_bytes`."""
    records, moves = fetched.records, fetched.moves
    while cut := _first_cut(records, most_records, most_bytes):
        head, records = records[:cut], records[cut:]
        first, moves = cut_moves(moves, records)
        yield Fetched(records=head, moves=first)
    yield Fetched(records=records, moves=moves)


def _first_cut(records: Sequence[Record], most_records: int, most_bytes: int) -> int:
    """Where the first piece ends; 0 when the whole is one."""
    sizes = accumulate(record.size for record in records[:most_records])
    full = next((index for index, size in enumerate(sizes, start=1) if size > most_bytes), most_records)
    return full if full < len(records) else 0
