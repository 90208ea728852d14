"""The life of a callback: attempted until delivered or given up, perhaps replayed.

`delivered` is absorbing. A delivery carries everything that sending it needs, so that a retry or a replay
asks nobody else.
"""

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from shared.domain.retry_policy import (
    ErrorClass,
    GiveUp,
    GiveUpReason,
    Retry,
    RetryPolicy,
    decide_retry,
)
from shared.domain.types import JsonText, RequestEvent, facts_of

__all__ = [
    "EMPTY_CALLBACK",
    "Abandon",
    "AttemptSummary",
    "CallbackAttempted",
    "CallbackDeadLettered",
    "CallbackDelivered",
    "CallbackDiscarded",
    "CallbackEvent",
    "CallbackReplayed",
    "CallbackState",
    "CallbackStatus",
    "Delivered",
    "Delivery",
    "DeliveryDeadLettered",
    "FailedAttempt",
    "Refusal",
    "SuccessfulAttempt",
    "TryAgain",
    "decide_attempt",
    "decide_delivery",
    "evolve",
]

ATTEMPTS_KEPT: Final = 20
"""Summaries of attempts that travel with a delivery; the oldest go first, all are in the log."""


class CallbackStatus(StrEnum):
    """What a person sees of a request's callback."""

    NONE = "none"
    PENDING = "pending"
    RETRYING = "retrying"
    DELIVERED = "delivered"
    FAILED = "failed"
    DISCARDED = "discarded"


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptSummary:
    """One attempt in short. `status` is the HTTP status, when one arrived."""

    attempt: int
    at_ms: int
    duration_ms: float
    error_class: ErrorClass | None = None
    status: int | None = None
    message: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery(RequestEvent):
    """A callback to be sent: attempt number `attempt`, not before `not_before_ms`. Retry tiers hold these.

    `body` is signed and sent exactly as it is. `origin` is the position of the outcome in the log.
    """

    url: str
    webhook_id: str
    body: JsonText
    origin: str
    attempt: int = 1
    not_before_ms: int = 0
    replay_count: int = 0
    deferrals: int = 0
    first_failed_at_ms: int | None = None
    history: tuple[AttemptSummary, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryDeadLettered:
    """The record of the dead-letter queue: `delivery` was given up, and can be sent again from here."""

    delivery: Delivery
    reason: GiveUpReason
    message: str
    last_failed_at_ms: int
    dead_lettered_at_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CallbackAttempted(RequestEvent):
    """An attempt failed. `retry_at_ms` is None when it was the last one."""

    url: str
    attempt: int
    error_class: ErrorClass
    at_ms: int
    duration_ms: float
    status: int | None = None
    message: str = ""
    response_excerpt: str = ""
    retry_at_ms: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CallbackDelivered(RequestEvent):
    """The receiver took the callback."""

    url: str
    attempt: int
    status: int
    at_ms: int
    duration_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CallbackDeadLettered(RequestEvent):
    """The callback was given up and lies in the dead-letter queue."""

    url: str
    reason: GiveUpReason
    attempts: int
    at_ms: int
    message: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CallbackReplayed(RequestEvent):
    """Somebody sent a dead letter on its way again."""

    letter: str
    replayed_by: str
    reason: str
    at_ms: int
    replay_count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CallbackDiscarded(RequestEvent):
    """Somebody, or a rule, closed a dead letter for good."""

    letter: str
    discarded_by: str
    reason: str
    at_ms: int


CallbackEvent = (
    CallbackAttempted | CallbackDelivered | CallbackDeadLettered | CallbackReplayed | CallbackDiscarded
)


@dataclass(frozen=True, slots=True, kw_only=True)
class CallbackState:
    """A callback as far as its facts have told. `attempts` counts the ones made since the last replay."""

    status: CallbackStatus = CallbackStatus.PENDING
    attempts: int = 0
    replay_count: int = 0


EMPTY_CALLBACK: Final = CallbackState()


def evolve(state: CallbackState, event: CallbackEvent) -> CallbackState:
    """`state` after `event`; nothing follows `delivered`."""
    if state.status is CallbackStatus.DELIVERED:
        return state
    match event:
        case CallbackDelivered():
            return replace(state, status=CallbackStatus.DELIVERED, attempts=event.attempt)
        case CallbackAttempted():
            return replace(state, status=CallbackStatus.RETRYING, attempts=event.attempt)
        case CallbackDeadLettered():
            return replace(state, status=CallbackStatus.FAILED, attempts=event.attempts)
        case CallbackReplayed():
            return replace(state, status=CallbackStatus.PENDING, attempts=0, replay_count=event.replay_count)
        case CallbackDiscarded():
            return replace(state, status=CallbackStatus.DISCARDED)


class Refusal(StrEnum):
    """Why a delivery is not made."""

    SETTLED = "settled"
    STALE = "stale"


def decide_delivery(state: CallbackState, delivery: Delivery) -> Refusal | None:
    """Whether `delivery` is still to be made: not when it is settled, nor when a later attempt is known.

    The same delivery comes again when the work between an attempt and its offset's commit is repeated.
    """
    if delivery.replay_count < state.replay_count:
        return Refusal.STALE
    if delivery.replay_count > state.replay_count:
        return Refusal.SETTLED if state.status is CallbackStatus.DELIVERED else None
    if state.status in (CallbackStatus.DELIVERED, CallbackStatus.FAILED, CallbackStatus.DISCARDED):
        return Refusal.SETTLED
    return Refusal.STALE if delivery.attempt <= state.attempts else None


@dataclass(frozen=True, slots=True, kw_only=True)
class SuccessfulAttempt:
    """The receiver answered 2xx."""

    status: int
    at_ms: int
    duration_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class FailedAttempt:
    """Anything else. `at_ms` is when it had failed; `retry_after_ms` is what the receiver asked for."""

    error_class: ErrorClass
    at_ms: int
    duration_ms: float
    message: str = ""
    status: int | None = None
    retry_after_ms: int | None = None
    response_excerpt: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivered:
    """Record the fact; the callback is done."""

    fact: CallbackDelivered


@dataclass(frozen=True, slots=True, kw_only=True)
class TryAgain:
    """Append `postponed` to a tier, then record the fact."""

    postponed: Delivery
    fact: CallbackAttempted


@dataclass(frozen=True, slots=True, kw_only=True)
class Abandon:
    """Append `letter` to the dead-letter queue, then record both facts."""

    letter: DeliveryDeadLettered
    facts: tuple[CallbackAttempted, CallbackDeadLettered]


def decide_attempt(
    delivery: Delivery, attempt: SuccessfulAttempt | FailedAttempt, policy: RetryPolicy, *, jitter: float
) -> Delivered | TryAgain | Abandon:
    """What follows an attempt to make `delivery`; `jitter` is a number drawn from [0, 1)."""
    if isinstance(attempt, SuccessfulAttempt):
        return Delivered(fact=_delivered(delivery, attempt))
    verdict = decide_retry(
        policy,
        attempt.error_class,
        attempt=delivery.attempt,
        now_ms=attempt.at_ms,
        jitter=jitter,
        retry_after_ms=attempt.retry_after_ms,
    )
    match verdict:
        case Retry(not_before_ms):
            return TryAgain(
                postponed=_postponed(delivery, attempt, not_before_ms),
                fact=_attempted(delivery, attempt, retry_at_ms=not_before_ms),
            )
        case GiveUp(reason):
            return _abandon(delivery, attempt, reason)


def _abandon(delivery: Delivery, attempt: FailedAttempt, reason: GiveUpReason) -> Abandon:
    return Abandon(
        letter=DeliveryDeadLettered(
            delivery=_remember(delivery, attempt),
            reason=reason,
            message=attempt.message,
            last_failed_at_ms=attempt.at_ms,
            dead_lettered_at_ms=attempt.at_ms,
        ),
        facts=(
            _attempted(delivery, attempt, retry_at_ms=None),
            CallbackDeadLettered(
                **facts_of(delivery),
                url=delivery.url,
                reason=reason,
                attempts=delivery.attempt,
                at_ms=attempt.at_ms,
                message=attempt.message,
            ),
        ),
    )


def _postponed(delivery: Delivery, attempt: FailedAttempt, not_before_ms: int) -> Delivery:
    return replace(
        _remember(delivery, attempt),
        attempt=delivery.attempt + 1,
        not_before_ms=not_before_ms,
        deferrals=0,
    )


def _remember(delivery: Delivery, attempt: FailedAttempt) -> Delivery:
    """`delivery` with the summary of `attempt` in its bounded history."""
    summary = AttemptSummary(
        attempt=delivery.attempt,
        at_ms=attempt.at_ms,
        duration_ms=attempt.duration_ms,
        error_class=attempt.error_class,
        status=attempt.status,
        message=attempt.message,
    )
    first_failed_at_ms = delivery.first_failed_at_ms
    return replace(
        delivery,
        history=(*delivery.history, summary)[-ATTEMPTS_KEPT:],
        first_failed_at_ms=attempt.at_ms if first_failed_at_ms is None else first_failed_at_ms,
    )


def _delivered(delivery: Delivery, attempt: SuccessfulAttempt) -> CallbackDelivered:
    return CallbackDelivered(
        **facts_of(delivery),
        url=delivery.url,
        attempt=delivery.attempt,
        status=attempt.status,
        at_ms=attempt.at_ms,
        duration_ms=attempt.duration_ms,
    )


def _attempted(delivery: Delivery, attempt: FailedAttempt, *, retry_at_ms: int | None) -> CallbackAttempted:
    return CallbackAttempted(
        **facts_of(delivery),
        url=delivery.url,
        attempt=delivery.attempt,
        error_class=attempt.error_class,
        at_ms=attempt.at_ms,
        duration_ms=attempt.duration_ms,
        status=attempt.status,
        message=attempt.message,
        response_excerpt=attempt.response_excerpt,
        retry_at_ms=retry_at_ms,
    )
