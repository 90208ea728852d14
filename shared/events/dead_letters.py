"""A record that could not become a request, with all that a person or a replay needs to know of it."""

import hashlib
from base64 import b64encode
from typing import Final

from shared.domain.requests import RequestDeadLettered
from shared.events.request_data import FieldProblem
from shared.kafka.records import Record

__all__ = ["KEPT_WHOLE_BYTES", "TRUNCATED_BYTES", "dead_letter_of"]

KEPT_WHOLE_BYTES: Final = 3_584 * 1024
"""A value up to this size is kept whole: as base64 it still fits the dead-letter topic with its headers."""

TRUNCATED_BYTES: Final = 64 * 1024
"""What is kept of a longer one, or of headers."""

HEADER_OVERHEAD_BYTES: Final = 8
"""What a header takes in a letter besides name and value: empty ones come in hundreds of thousands."""


def dead_letter_of(
    record: Record,
    *,
    reason: str,
    message: str,
    now_ms: int,
    fields: tuple[FieldProblem, ...] = (),
    request_id: str | None = None,
    attempts: int = 0,
) -> RequestDeadLettered:
    """The dead letter of `record`."""
    value = record.value or b""
    kept = value if len(value) <= KEPT_WHOLE_BYTES else value[:TRUNCATED_BYTES]
    return RequestDeadLettered(
        reason=reason,
        message=message,
        origin=record.position,
        timestamp_ms=record.timestamp_ms,
        dead_lettered_at_ms=now_ms,
        request_id=request_id,
        key_base64=None if record.key is None else _base64(record.key[:TRUNCATED_BYTES]),
        value_base64=None if record.value is None else _base64(kept),
        value_bytes=len(value),
        sha256=hashlib.sha256(value).hexdigest(),
        headers_base64=_bounded_headers(record),
        fields=fields,
        attempts=attempts,
    )


def _bounded_headers(record: Record) -> tuple[tuple[str, str], ...]:
    """Headers from the first on, as long as they fit."""
    kept: list[tuple[str, str]] = []
    room = TRUNCATED_BYTES
    for name, value in record.headers:
        room -= len(name) + len(value) + HEADER_OVERHEAD_BYTES
        if room < 0:
            break
        kept.append((name, _base64(value)))
    return tuple(kept)


def _base64(data: bytes) -> str:
    return b64encode(data).decode()
