"""The life of a callback: attempted until delivered or given up, perhaps replayed.

`delivered` is absorbing. A delivery carries everything that sending it needs, so that a retry or a replay
asks nobody else.
"""

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from shared.domain.retry_policy import ErrorClass, GiveUpReason
from shared.domain.types import JsonText, RequestEvent

__all__ = [
    "EMPTY_CALLBACK",
    "AttemptSummary",
    "CallbackAttempted",
    "CallbackDeadLettered",
    "CallbackDelivered",
    "CallbackDiscarded",
    "CallbackEvent",
    "CallbackReplayed",
    "CallbackState",
    "CallbackStatus",
    "Delivery",
    "DeliveryDeadLettered",
    "FailedAttempt",
    "SuccessfulAttempt",
    "evolve",
]


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

    `body` is signed and sent exactly as it is. `origin` is the position of the outcome in the log. An attempt
    that could not be made for now is deferred: `deferrals` times since `deferred_since_ms`.
    """

    url: str
    webhook_id: str
    body: JsonText
    origin: str
    attempt: int = 1
    not_before_ms: int = 0
    replay_count: int = 0
    deferrals: int = 0
    deferred_since_ms: int | None = None
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
    """A callback as far as its facts have told. `attempts` counts the ones made since the last replay.

    `deferrals` counts those of the attempt that is next, as far as they are known: no fact tells of them.
    """

    status: CallbackStatus = CallbackStatus.PENDING
    attempts: int = 0
    replay_count: int = 0
    deferrals: int = 0


EMPTY_CALLBACK: Final = CallbackState()


def evolve(state: CallbackState, event: CallbackEvent) -> CallbackState:
    """`state` after `event`; nothing follows `delivered`."""
    if state.status is CallbackStatus.DELIVERED:
        return state
    match event:
        case CallbackDelivered():
            return replace(state, status=CallbackStatus.DELIVERED, attempts=event.attempt)
        case CallbackAttempted():
            return replace(state, status=CallbackStatus.RETRYING, attempts=event.attempt, deferrals=0)
        case CallbackDeadLettered():
            return replace(state, status=CallbackStatus.FAILED, attempts=event.attempts)
        case CallbackReplayed():
            return CallbackState(replay_count=event.replay_count)
        case CallbackDiscarded():
            return replace(state, status=CallbackStatus.DISCARDED)


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
