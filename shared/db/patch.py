"""What a batch of events changes about one request: folded first, then written as one guarded row. Pure.

Each column group keeps the key of the record that it comes from, and `absorb` follows the same rules as the
upsert: facts from the lowest key, the last `started` before the first outcome, the last fact of the callback
until it is delivered. The pure folds of `shared.domain` define what the sum of all patches must be.
"""

import hashlib
import re
from dataclasses import dataclass
from typing import Final

from shared.db.interpret import Understood
from shared.db.keys import DELIVERED_MARK, delivered_key, facts_key, order_key
from shared.db.tables import NAME_LENGTH, NOTE_LENGTH
from shared.domain.callbacks import (
    CallbackAttempted,
    CallbackDeadLettered,
    CallbackDelivered,
    CallbackDiscarded,
    CallbackEvent,
    CallbackReplayed,
    CallbackStatus,
    DeliveryDeadLettered,
)
from shared.domain.requests import (
    Outcome,
    RequestFailed,
    RequestStarted,
    RequestStatus,
    RequestSubmitted,
)
from shared.domain.types import RequestEvent

__all__ = ["DeliveryPart", "FactsPart", "OutcomePart", "RequestPatch", "StartedPart", "cut"]

_SHA256_HEX: Final = re.compile(r"[0-9a-f]{64}")


def cut(text: str | None, longest: int = NOTE_LENGTH) -> str | None:
    """`text` for a column that only shows it: the start, marked where it ends too early."""
    if text is None or len(text) <= longest:
        return text
    return text[: longest - 1] + "…"


@dataclass(frozen=True, slots=True, kw_only=True)
class FactsPart:
    """Who asked for what."""

    mode: str
    source: str
    operation: str
    accepted_at_ms: int
    client_reference: str | None
    callback_url: str | None
    digest: str | None
    timeout_ms: int | None
    expires_at_ms: int | None
    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StartedPart:
    """A computation that is taking a while."""

    started_at_ms: int
    started_attempt: int
    worker: str | None
    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class OutcomePart:
    """How the computation ended."""

    outcome: str
    attempts: int
    finished_at_ms: int
    queue_ms: float
    compute_ms: float
    error_code: str | None
    error_message: str | None
    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryPart:
    """Where the callback stands. None leaves a count as it was."""

    delivery: str
    delivery_attempts: int | None
    replay_count: int | None
    delivery_at_ms: int
    retry_at_ms: int | None
    key: str

    @property
    def settled(self) -> bool:
        """Whether nothing that follows counts."""
        return self.key.startswith(DELIVERED_MARK)


@dataclass(slots=True)
class RequestPatch:
    """The changes of one request, in the order of the log absorbed event by event."""

    facts: FactsPart
    started: StartedPart | None = None
    outcome: OutcomePart | None = None
    delivery: DeliveryPart | None = None

    def absorb(self, other: "RequestPatch") -> None:
        """Take in the patch of a later record of the batch."""
        if other.facts.key < self.facts.key:
            self.facts = other.facts
        if other.started:
            self._absorb_started(other.started)
        if other.outcome and (self.outcome is None or other.outcome.key < self.outcome.key):
            self.outcome = other.outcome
        if other.delivery:
            self._absorb_delivery(other.delivery)

    def _absorb_started(self, part: StartedPart) -> None:
        before_outcome = self.outcome is None or part.key < self.outcome.key
        if before_outcome and (self.started is None or part.key > self.started.key):
            self.started = part

    def _absorb_delivery(self, part: DeliveryPart) -> None:
        mine = self.delivery
        if mine is None:
            self.delivery = part
        elif not mine.settled and part.key > mine.key:
            self.delivery = DeliveryPart(
                delivery=part.delivery,
                delivery_attempts=_first_known(part.delivery_attempts, mine.delivery_attempts),
                replay_count=_first_known(part.replay_count, mine.replay_count),
                delivery_at_ms=part.delivery_at_ms,
                retry_at_ms=part.retry_at_ms,
                key=part.key,
            )

    @classmethod
    def of(cls, known: Understood) -> "RequestPatch | None":
        """What one record changes; None when it does not say whose request it is about."""
        event = known.event
        if isinstance(event, DeliveryDeadLettered):
            return cls(_facts(known, event.delivery, callback_url=event.delivery.url))
        if not isinstance(event, RequestEvent):
            return None
        patch = cls(_facts(known, event))
        key = order_key(known.record)
        match event:
            case RequestStarted():
                patch.started = _started(event, key)
            case Outcome():
                patch.outcome = _outcome(event, key)
            case _ if isinstance(event, CallbackEvent):
                patch.delivery = _delivery(event, key)
        return patch


def _first_known(new: int | None, old: int | None) -> int | None:
    return old if new is None else new


def _facts(known: Understood, event: RequestEvent, callback_url: str | None = None) -> FactsPart:
    submitted = event if isinstance(event, RequestSubmitted) else None
    told = event if isinstance(event, RequestSubmitted | Outcome) else None
    return FactsPart(
        mode=event.mode,
        source=event.source,
        operation=event.operation,
        accepted_at_ms=event.accepted_at_ms,
        client_reference=told.client_reference if told else None,
        callback_url=told.callback_url if told else callback_url or getattr(event, "url", None),
        digest=_hex_digest(submitted.digest) if submitted else None,
        timeout_ms=submitted.timeout_ms if submitted else None,
        expires_at_ms=submitted.expires_at_ms if submitted else None,
        key=facts_key(known.topic, known.record),
    )


def _hex_digest(digest: str) -> str:
    """A producer may write whatever it likes where ingest writes a SHA-256."""
    return digest if _SHA256_HEX.fullmatch(digest) else hashlib.sha256(digest.encode()).hexdigest()


def _started(event: RequestStarted, key: str) -> StartedPart:
    return StartedPart(
        started_at_ms=event.started_at_ms,
        started_attempt=event.attempt,
        worker=cut(event.worker, NAME_LENGTH),
        key=key,
    )


def _outcome(event: Outcome, key: str) -> OutcomePart:
    error = event.error if isinstance(event, RequestFailed) else None
    return OutcomePart(
        outcome=RequestStatus.FAILED if error else RequestStatus.SUCCEEDED,
        attempts=event.attempts,
        finished_at_ms=event.finished_at_ms,
        queue_ms=event.queue_ms,
        compute_ms=event.compute_ms,
        error_code=error.code if error else None,
        error_message=cut(error.message) if error else None,
        key=key,
    )


def _delivery(event: CallbackEvent, key: str) -> DeliveryPart:
    status, attempts = _delivery_state(event)
    return DeliveryPart(
        delivery=status,
        delivery_attempts=attempts,
        replay_count=event.replay_count if isinstance(event, CallbackReplayed) else None,
        delivery_at_ms=event.at_ms,
        retry_at_ms=event.retry_at_ms if isinstance(event, CallbackAttempted) else None,
        key=delivered_key(key) if status is CallbackStatus.DELIVERED else key,
    )


def _delivery_state(event: CallbackEvent) -> tuple[CallbackStatus, int | None]:
    match event:
        case CallbackAttempted():
            return CallbackStatus.RETRYING, event.attempt
        case CallbackDelivered():
            return CallbackStatus.DELIVERED, event.attempt
        case CallbackDeadLettered():
            return CallbackStatus.FAILED, event.attempts
        case CallbackReplayed():
            return CallbackStatus.PENDING, 0
        case CallbackDiscarded():
            return CallbackStatus.DISCARDED, None
