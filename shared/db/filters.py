"""Which requests a listing is about, which index serves it, and where its next page begins. Pure.

Listings go from the newest to the oldest by (accepted_at_ms, id), values that no later event changes but for
an earlier submission under the same id. Each index below ends in that pair, so that a page is one range of
one index: alone, or with the filters named in its `backs`. Any time window may be added to each of them.
Other combinations are answered by filtering the rows of the best index, within the query's deadline.
"""

import base64
import hashlib
import json
import re
from dataclasses import dataclass
from typing import Final

from shared.db.errors import InvalidCursorError
from shared.domain.callbacks import CallbackStatus
from shared.domain.requests import RequestStatus
from shared.domain.types import Mode

__all__ = [
    "MAX_LIMIT",
    "IndexChoice",
    "PageStart",
    "RequestFilter",
    "choose_index",
    "open_cursor",
    "seal_cursor",
]

MAX_LIMIT: Final = 500
ID_PREFIX_LENGTH: Final = 8
_ID_START: Final = re.compile(rf"[0-9a-f-]{{{ID_PREFIX_LENGTH},36}}")


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestFilter:
    """What a listing asks for; None asks for anything.

    `since_ms` is inclusive and `until_ms` exclusive, both by `accepted_at_ms`. `q` is an id, the first eight
    or more characters of one, or a client reference.
    """

    mode: Mode | None = None
    status: RequestStatus | None = None
    callback_status: CallbackStatus | None = None
    operation: str | None = None
    source: str | None = None
    since_ms: int | None = None
    until_ms: int | None = None
    q: str | None = None

    @property
    def equalities(self) -> dict[str, str]:
        """Columns with the one value that is asked for."""
        asked = {
            "mode": self.mode,
            "status": self.status,
            "callback_status": self.callback_status,
            "operation": self.operation,
            "source": self.source,
        }
        return {column: value for column, value in asked.items() if value is not None}

    @property
    def id_start(self) -> str | None:
        """`q` when it can be an id or its prefix."""
        text = (self.q or "").lower()
        return text if _ID_START.fullmatch(text) else None

    @property
    def fingerprint(self) -> str:
        """Equal for equal filters only, as far as a cursor is concerned."""
        asked = (*sorted(self.equalities.items()), self.since_ms, self.until_ms, self.q)
        return hashlib.blake2b(repr(asked).encode(), digest_size=6).hexdigest()


@dataclass(frozen=True, slots=True)
class IndexChoice:
    """The index of a listing, and whether it alone answers it."""

    name: str
    backed: bool


_INDEXES: Final = (
    # name, columns that must be asked for, columns that may be asked for as well
    ("ix_requests_mode_status", {"mode", "status"}, set[str]()),
    ("ix_requests_status", {"status"}, set[str]()),
    ("ix_requests_operation", {"operation"}, set[str]()),
    ("ix_requests_source", {"source"}, set[str]()),
    ("ix_requests_callback_status", {"callback_status"}, {"mode"}),
    ("ix_requests_mode", {"mode"}, set[str]()),
    ("ix_requests_accepted", set[str](), set[str]()),
)


def choose_index(asked: RequestFilter) -> IndexChoice:
    """The index to read a page from.

    One that backs the whole filter, or else the one that is likely to leave least: a callback that is not
    simply done or absent, then a status that requests pass through or seldom end in, then names.
    """
    columns = asked.equalities
    for name, needed, allowed in _INDEXES:
        if needed <= columns.keys() <= needed | allowed:
            return IndexChoice(name, backed=True)
    common = (CallbackStatus.NONE, CallbackStatus.DELIVERED)
    if asked.callback_status is not None and asked.callback_status not in common:
        return IndexChoice("ix_requests_callback_status", backed=False)
    if asked.status is not None and asked.status is not RequestStatus.SUCCEEDED:
        return IndexChoice("ix_requests_status", backed=False)
    if asked.operation is not None:
        return IndexChoice("ix_requests_operation", backed=False)
    if asked.source is not None:
        return IndexChoice("ix_requests_source", backed=False)
    return IndexChoice("ix_requests_callback_status", backed=False)


@dataclass(frozen=True, slots=True)
class PageStart:
    """The last row of the page before."""

    accepted_at_ms: int
    id: str


_CHECK_BYTES: Final = 6


def seal_cursor(start: PageStart, asked: RequestFilter) -> str:
    """Opaque text from which `open_cursor` reads `start` again, for the same filter."""
    body = json.dumps([start.accepted_at_ms, start.id, asked.fingerprint]).encode()
    return base64.urlsafe_b64encode(_check(body) + body).rstrip(b"=").decode()


def open_cursor(cursor: str, asked: RequestFilter) -> PageStart:
    """Where the page begins.

    Raises:
        InvalidCursorError: the text is not one of ours, or belongs to other filters.
    """
    try:
        data = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
    except ValueError:
        raise InvalidCursorError("the cursor is damaged; take it from `next` as it is") from None
    check, body = data[:_CHECK_BYTES], data[_CHECK_BYTES:]
    if check != _check(body):
        raise InvalidCursorError("the cursor is damaged; take it from `next` as it is")
    accepted_at_ms, request_id, fingerprint = json.loads(body)
    if fingerprint != asked.fingerprint:
        raise InvalidCursorError("the cursor belongs to other filters; start again without it")
    return PageStart(accepted_at_ms, request_id)


def _check(body: bytes) -> bytes:
    return hashlib.blake2b(body, digest_size=_CHECK_BYTES, person=b"consuma-page").digest()
