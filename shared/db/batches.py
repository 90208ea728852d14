"""Batches of the projection: what is applied together, and how a batch comes apart. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from shared.db.interpret import Anomaly, Interpretation, Skipped
from shared.domain.identity import canonical_uuid
from shared.kafka.records import Partition, Record

__all__ = ["Batch", "Move", "Moves", "as_anomaly", "cut_at", "cut_moves"]


@dataclass(frozen=True, slots=True)
class Move:
    """From the position at which a batch starts to the one after it."""

    start: int
    end: int


Moves = Mapping[Partition, Move]


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Interpreted records, each partition's in the order of the log, and how far they bring it."""

    entries: Sequence[Interpretation]
    moves: Moves


def cut_at(batch: Batch, index: int) -> tuple[Batch, Batch]:
    """`batch` as two that come to the same: entries up to `index`, and the rest."""
    head, tail = batch.entries[:index], batch.entries[index:]
    first, second = cut_moves(batch.moves, [entry.record for entry in tail])
    return Batch(entries=head, moves=first), Batch(entries=tail, moves=second)


def cut_moves(moves: Moves, tail: Sequence[Record]) -> tuple[Moves, Moves]:
    """`moves` up to the records in `tail`, which come last, and on from there."""
    resume: dict[Partition, int] = {}
    for record in tail:
        resume.setdefault(Partition(record.topic, record.partition), record.offset)
    first = {each: Move(move.start, resume.get(each, move.end)) for each, move in moves.items()}
    second = {each: Move(first[each].end, move.end) for each, move in moves.items()}
    return _moving(first), _moving(second)


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


def _moving(moves: Moves) -> Moves:
    return {each: move for each, move in moves.items() if move.start != move.end}
