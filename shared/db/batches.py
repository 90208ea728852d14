"""Batches of the projection: what is applied together, and how a batch comes apart. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

from shared.db.interpret import Anomaly, Interpretation, Skipped
from shared.domain.identity import canonical_uuid
from shared.kafka.records import Partition, Record

__all__ = ["Batch", "Move", "as_anomaly", "cut_at", "split"]


@dataclass(frozen=True, slots=True)
class Move:
    """From the position at which a batch starts to the one after it."""

    start: int
    end: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Interpreted records, each partition's in the order of the log, and how far they bring it."""

    entries: Sequence[Interpretation]
    moves: Mapping[Partition, Move]


def cut_at(batch: Batch, index: int) -> tuple[Batch, Batch]:
    """`batch` as two that come to the same: entries up to `index`, and the rest."""
    head, tail = batch.entries[:index], batch.entries[index:]
    resume: dict[Partition, int] = {}
    for entry in tail:
        resume.setdefault(_place(entry.record), entry.record.offset)
    first = {each: Move(move.start, resume.get(each, move.end)) for each, move in batch.moves.items()}
    second = {each: Move(first[each].end, move.end) for each, move in batch.moves.items()}
    return Batch(entries=head, moves=_moving(first)), Batch(entries=tail, moves=_moving(second))


def split(batch: Batch, *, most_records: int, most_bytes: int) -> Iterator[Batch]:
    """`batch` in pieces of at most so many records, each ended by the record that passes `most_bytes`."""
    rest = batch
    while cut := _first_cut(rest.entries, most_records, most_bytes):
        piece, rest = cut_at(rest, cut)
        yield piece
    yield rest


def as_anomaly(entry: Interpretation, reason: str) -> Anomaly:
    """`entry` as a record that could not be projected, with nothing in it that could be refused again."""
    if isinstance(entry, Skipped):
        raise TypeError("a skipped record is never written, so it cannot be refused")
    return Anomaly(
        topic=entry.topic,
        record=entry.record,
        type=entry.type.encode("ascii", "replace").decode(),
        request_id=canonical_uuid(entry.request_id or ""),
        reason=reason,
    )


def _first_cut(entries: Sequence[Interpretation], most_records: int, most_bytes: int) -> int:
    """Where the first piece ends; 0 when the whole is one."""
    sizes = accumulate(entry.record.size for entry in entries[:most_records])
    full = next((index for index, size in enumerate(sizes, start=1) if size > most_bytes), most_records)
    return full if full < len(entries) else 0


def _place(record: Record) -> Partition:
    return Partition(record.topic, record.partition)


def _moving(moves: Mapping[Partition, Move]) -> dict[Partition, Move]:
    return {each: move for each, move in moves.items() if move.start != move.end}
