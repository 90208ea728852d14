"""Interpreted records as rows of the read side's tables, each table's rows in the order of its primary key.

Two writers that meet take their locks in the same order, so that they wait for each other instead of
deadlocking. Pure.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from shared.db.columns import DELIVERY_COLUMNS, OUTCOME_COLUMNS, POSITION_COLUMNS, STARTED_COLUMNS, Row
from shared.db.interpret import Anomaly, Interpretation, Understood
from shared.db.keys import order_key
from shared.db.patch import RequestPatch, cut
from shared.db.tables import NAME_LENGTH, REFERENCE_LENGTH
from shared.domain.callbacks import (
    CallbackAttempted,
    CallbackDelivered,
    CallbackDiscarded,
    CallbackReplayed,
    DeliveryDeadLettered,
)
from shared.domain.requests import RequestDeadLettered
from shared.kafka.records import Record

__all__ = ["BatchRows", "rows_of"]

ORIGIN_LENGTH: Final = REFERENCE_LENGTH + 64
_PLACE: Final = re.compile(r"([a-zA-Z0-9._-]{1,249})-([0-9]{1,9})-([0-9]{1,18})")


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchRows:
    """What one batch writes, but for its offsets."""

    requests: list[Row]
    events: list[Row]
    attempts: list[Row]
    letters: list[Row]
    closures: list[Row]


def rows_of(batch: Iterable[Interpretation]) -> BatchRows:
    """The rows of a batch, which holds each partition's records in the order of the log."""
    kept = [each for each in batch if isinstance(each, Understood | Anomaly)]
    known = [each for each in kept if isinstance(each, Understood)]
    return BatchRows(
        requests=_request_rows(known),
        events=sorted(map(_event_row, kept), key=_position_of),
        attempts=sorted(_rows(map(_attempt_row, known)), key=_position_of),
        letters=sorted(_rows(map(_letter_row, known)), key=_position_of),
        closures=sorted(_rows(map(_closure_row, known)), key=_position_of),
    )


def _rows(rows: Iterable[Row | None]) -> Iterable[Row]:
    return (row for row in rows if row is not None)


def _position_of(row: Row) -> Row:
    return row[: len(POSITION_COLUMNS)]


def _request_rows(batch: Iterable[Understood]) -> list[Row]:
    patches: dict[str, RequestPatch] = {}
    for known in batch:
        patch = RequestPatch.of(known)
        if patch is None or known.request_id is None:
            continue
        earlier = patches.setdefault(known.request_id, patch)
        if earlier is not patch:
            earlier.absorb(patch)
    return [_request_row(request_id, patches[request_id]) for request_id in sorted(patches)]


def _request_row(request_id: str, patch: RequestPatch) -> Row:
    facts = patch.facts
    return (
        request_id,
        facts.mode,
        facts.source,
        facts.operation,
        facts.accepted_at_ms,
        facts.client_reference,
        facts.callback_url,
        facts.digest,
        facts.timeout_ms,
        facts.expires_at_ms,
        facts.key,
        *_started_values(patch),
        *_outcome_values(patch),
        *_delivery_values(patch),
    )


def _started_values(patch: RequestPatch) -> Row:
    part = patch.started
    if part is None:
        return (None,) * len(STARTED_COLUMNS)
    return (part.started_at_ms, part.started_attempt, part.worker, part.key)


def _outcome_values(patch: RequestPatch) -> Row:
    part = patch.outcome
    if part is None:
        return (None,) * len(OUTCOME_COLUMNS)
    return (
        part.outcome,
        part.attempts,
        part.finished_at_ms,
        part.queue_ms,
        part.compute_ms,
        part.error_code,
        part.error_message,
        part.key,
    )


def _delivery_values(patch: RequestPatch) -> Row:
    part = patch.delivery
    if part is None:
        return (None,) * len(DELIVERY_COLUMNS)
    return (
        part.delivery,
        part.delivery_attempts,
        part.replay_count,
        part.delivery_at_ms,
        part.retry_at_ms,
        part.key,
    )


def _place(record: Record) -> Row:
    return (record.topic, record.partition, record.offset)


def _event_row(entry: Understood | Anomaly) -> Row:
    known = entry if isinstance(entry, Understood) else None
    return (
        *_place(entry.record),
        entry.request_id,
        cut(entry.type, NAME_LENGTH),
        cut(known.event_id, NAME_LENGTH) if known else None,
        entry.record.timestamp_ms,
        known.data if known else None,
        _note(known) if known else None,
        cut(entry.reason) if isinstance(entry, Anomaly) else None,
    )


def _note(known: Understood) -> str | None:
    match known.event:
        case (
            DeliveryDeadLettered(reason=reason, message=message)
            | RequestDeadLettered(reason=reason, message=message)
        ):
            return cut(f"{reason}: {message}")
        case _:
            return None


def _attempt_row(known: Understood) -> Row | None:
    event = known.event
    if not isinstance(event, CallbackAttempted | CallbackDelivered):
        return None
    failed = event if isinstance(event, CallbackAttempted) else None
    return (
        *_place(known.record),
        event.request_id,
        event.attempt,
        "failed" if failed else "delivered",
        event.url,
        event.at_ms,
        event.duration_ms,
        event.status,
        failed.error_class if failed else None,
        cut(failed.message) if failed else None,
        cut(failed.response_excerpt) if failed else None,
        failed.retry_at_ms if failed else None,
    )


def _letter_row(known: Understood) -> Row | None:
    match known.event:
        case DeliveryDeadLettered() as letter:
            return (*_place(known.record), *_delivery_letter(letter))
        case RequestDeadLettered() as letter:
            return (*_place(known.record), *_request_letter(letter))
        case _:
            return None


def _delivery_letter(letter: DeliveryDeadLettered) -> Row:
    delivery = letter.delivery
    return (
        delivery.request_id,
        delivery.mode,
        delivery.source,
        delivery.operation,
        letter.reason,
        cut(letter.message),
        cut(delivery.origin, ORIGIN_LENGTH),
        delivery.url,
        delivery.attempt,
        delivery.replay_count,
        delivery.first_failed_at_ms,
        letter.dead_lettered_at_ms,
    )


def _request_letter(letter: RequestDeadLettered) -> Row:
    return (
        letter.request_id,
        None,
        None,
        None,
        cut(letter.reason, NAME_LENGTH),
        cut(letter.message),
        cut(letter.origin, ORIGIN_LENGTH),
        None,
        letter.attempts,
        None,
        None,
        letter.dead_lettered_at_ms,
    )


def _closure_row(known: Understood) -> Row | None:
    """What became of a dead letter. A fact that names no place in the log stays in the timeline only."""
    match known.event:
        case CallbackReplayed(letter=letter, replayed_by=closed_by, reason=reason, at_ms=at_ms):
            closed_as = "replayed"
        case CallbackDiscarded(letter=letter, discarded_by=closed_by, reason=reason, at_ms=at_ms):
            closed_as = "discarded"
        case _:
            return None
    place = _parse_place(letter)
    if place is None:
        return None
    key = order_key(known.record)
    return (*place, closed_as, cut(closed_by, NAME_LENGTH), cut(reason), at_ms, key)


def _parse_place(position: str) -> Row | None:
    """`topic-partition-offset` taken apart."""
    match = _PLACE.fullmatch(position)
    return (match[1], int(match[2]), int(match[3])) if match else None
