"""Repeated submissions: what an `Idempotency-Key` was used for, as far as this instance remembers."""

from collections import OrderedDict
from dataclasses import dataclass

from starlette.requests import Request

from services.ingest.problems import IdempotencyKeyReused, InvalidHeader
from shared.domain.identity import id_of_idempotency_key
from shared.domain.types import Mode, RequestId

__all__ = ["HEADER", "RecentSubmissions", "Remembered", "check_same", "request_id_of"]

HEADER = "Idempotency-Key"
REPLAYED_HEADER = "Idempotency-Replayed"
MAX_KEY_LENGTH = 255


@dataclass(frozen=True, slots=True)
class Remembered:
    """What was submitted under an id."""

    mode: Mode
    digest: str
    accepted_at_ms: int | None


class RecentSubmissions:
    """The last `limit` submissions by id; the oldest is forgotten first."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._known: OrderedDict[RequestId, Remembered] = OrderedDict()

    def get(self, request_id: RequestId) -> Remembered | None:
        """What is remembered of `request_id`."""
        return self._known.get(request_id)

    def remember(self, request_id: RequestId, what: Remembered) -> None:
        """Keep `what`, unless something is known of that id: the first one wins."""
        self._known.setdefault(request_id, what)
        while len(self._known) > self._limit:
            self._known.popitem(last=False)


def request_id_of(request: Request, caller: str) -> RequestId | None:
    """The id that the request's Idempotency-Key stands for, or None without one.

    Raises:
        InvalidHeader: the key is empty, too long, or not printable ASCII.
    """
    key = request.headers.get(HEADER)
    if key is None:
        return None
    if not 1 <= len(key) <= MAX_KEY_LENGTH or not key.isascii() or not key.isprintable():
        raise InvalidHeader(f"{HEADER} must be 1 to {MAX_KEY_LENGTH} printable ASCII characters")
    return id_of_idempotency_key(caller, key)


def check_same(known: Remembered, mode: Mode, digest: str) -> None:
    """Make sure that a repetition asks for what was asked before.

    Raises:
        IdempotencyKeyReused: it asks for something else.
    """
    if known.mode is not mode:
        raise IdempotencyKeyReused(f"the {HEADER} was used for a request in mode {known.mode}")
    if known.digest != digest:
        raise IdempotencyKeyReused(f"the {HEADER} was used with another body; take a new key")
