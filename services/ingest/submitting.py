"""Accepting submissions: who they are, whether they were made before, and their way into the log."""

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final
from uuid import uuid4

import structlog

from services.ingest import metrics
from services.ingest.checking import Wanted
from services.ingest.idempotency import RecentSubmissions, Remembered, check_same
from services.ingest.problems import Problem
from services.ingest.request_log import RequestLog
from services.ingest.settings import IngestSettings
from shared.db.errors import DatabaseAwayError
from shared.db.views import RequestView
from shared.domain.requests import RequestCancelled
from shared.domain.types import Mode, RequestId
from shared.events.codec import Origin, encode
from shared.events.submission import INGEST_SOURCE, ReplyTo, encode_submission
from shared.kafka.topics import Topic

__all__ = ["Accepted", "Lookup", "Submitter", "new_origin"]

log = structlog.get_logger()

TOPICS: Final = {Mode.SYNC: Topic.REQUESTS_SYNC, Mode.ASYNC: Topic.REQUESTS}

Lookup = Callable[[str], Awaitable[RequestView | None]]
"""Finds a request in the read side; raises DatabaseAwayError when that does not answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """A request that is in the log, now or since an earlier call with the same key; without its body."""

    request_id: RequestId
    accepted_at_ms: int | None
    mode: Mode
    operation: str
    client_reference: str | None
    replayed: bool = False


class Submitter:
    """Appends submissions and cancellations."""

    def __init__(self, settings: IngestSettings, request_log: RequestLog, lookup: Lookup) -> None:
        self._lookup_s = settings.idempotency_lookup_ms / 1000
        self._log = request_log
        self._lookup = lookup
        self._keys = settings.keys()
        self._recent = RecentSubmissions(settings.recent_submissions)

    async def seen(self, keyed_id: RequestId | None, wanted: Wanted) -> Accepted | None:
        """The earlier acceptance of what is wanted under an Idempotency-Key, as far as is known here.

        Raises:
            IdempotencyKeyReused: something else was accepted under the key.
        """
        if keyed_id is None:
            return None
        known = self._recent.get(keyed_id) or await self._projected(keyed_id)
        if known is None:
            return None
        check_same(known, wanted.mode, wanted.digest)
        return _accepted(keyed_id, known.accepted_at_ms, wanted, replayed=True)

    async def submit(
        self, keyed_id: RequestId | None, wanted: Wanted, origin: Origin, reply_to: ReplyTo | None = None
    ) -> Accepted:
        """Append the request.

        Raises:
            Overloaded, LogUnavailable, SubmissionUnknown: see `RequestLog.append`.
        """
        request_id = keyed_id or RequestId(str(uuid4()))
        event = encode_submission(request_id, wanted.data, origin, wanted.mode, reply_to, self._keys)
        labels = (wanted.mode, wanted.data.operation)
        try:
            position = await self._log.append(TOPICS[wanted.mode], event)
        except Problem as problem:
            metrics.SUBMITTED.labels(*labels, problem.code).inc()
            raise
        metrics.SUBMITTED.labels(*labels, "accepted").inc()
        if keyed_id is not None:
            self._recent.remember(keyed_id, Remembered(wanted.mode, wanted.digest, position.timestamp_ms))
        return _accepted(request_id, position.timestamp_ms, wanted)

    async def cancel(self, view: RequestView, origin: Origin) -> None:
        """Append that somebody wants `view` stopped.

        Raises:
            Overloaded, LogUnavailable, SubmissionUnknown: see `RequestLog.append`.
        """
        event = RequestCancelled(
            request_id=RequestId(view.id),
            mode=view.mode,
            source=view.source,
            operation=view.operation,
            accepted_at_ms=view.accepted_at_ms,
            requested_at_ms=origin.now_ms,
        )
        await self._log.append(Topic.REQUESTS_CANCELLED, encode(event, origin))

    async def _projected(self, request_id: RequestId) -> Remembered | None:
        """What the read side knows; nothing when it does not answer: the first record of an id wins."""
        try:
            async with asyncio.timeout(self._lookup_s):
                view = await self._lookup(request_id)
        except (DatabaseAwayError, TimeoutError) as error:
            log.warning("idempotency.lookup_failed", request_id=request_id, error=repr(error))
            return None
        if view is None or view.digest is None:
            return None
        return Remembered(view.mode, view.digest, view.accepted_at_ms)


def _accepted(
    request_id: RequestId, accepted_at_ms: int | None, wanted: Wanted, *, replayed: bool = False
) -> Accepted:
    return Accepted(
        request_id=request_id,
        accepted_at_ms=accepted_at_ms,
        mode=wanted.mode,
        operation=wanted.data.operation,
        client_reference=wanted.data.client_reference,
        replayed=replayed,
    )


def new_origin(traceparent: str | None) -> Origin:
    """The origin of an event that this process writes now."""
    return Origin(
        event_id=str(uuid4()),
        source=INGEST_SOURCE,
        now_ms=time.time_ns() // 1_000_000,
        traceparent=traceparent or _new_traceparent(),
    )


def _new_traceparent() -> str:
    return f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-01"
