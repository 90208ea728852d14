"""What to do about a delivery: before it is attempted, after it was, and when it could not be. Pure.

Every attempt leads to exactly one continuation: delivered, to be tried again, or given up. A delivery that
its destination cannot take just now is deferred: no attempt is spent, but neither does it wait for ever.
"""

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from shared.domain.callbacks import (
    AttemptSummary,
    CallbackAttempted,
    CallbackDeadLettered,
    CallbackDelivered,
    CallbackEvent,
    CallbackState,
    CallbackStatus,
    Delivery,
    DeliveryDeadLettered,
    FailedAttempt,
    SuccessfulAttempt,
)
from shared.domain.retry_policy import (
    DeferralPolicy,
    GiveUp,
    GiveUpReason,
    Retry,
    RetryPolicy,
    decide_retry,
    with_jitter,
)
from shared.domain.types import facts_of

__all__ = [
    "ATTEMPTS_KEPT",
    "Abandon",
    "Defer",
    "Delivered",
    "Refusal",
    "TryAgain",
    "decide_attempt",
    "decide_deferral",
    "decide_delivery",
    "decide_disabled",
    "expect",
]

ATTEMPTS_KEPT: Final = 20
"""Summaries of attempts that travel with a delivery; the oldest go first, all are in the log."""

MESSAGE_KEPT: Final = 500
"""Characters of an error's message that are kept: it may quote the receiver."""

_SETTLED: Final = frozenset({CallbackStatus.DELIVERED, CallbackStatus.FAILED, CallbackStatus.DISCARDED})


class Refusal(StrEnum):
    """Why a delivery is not made."""

    SETTLED = "settled"
    STALE = "stale"


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivered:
    """Record the fact; the callback is done."""

    fact: CallbackDelivered


@dataclass(frozen=True, slots=True, kw_only=True)
class TryAgain:
    """Append `postponed` to the tier that fits `wait_ms`, then record the fact."""

    postponed: Delivery
    wait_ms: int
    fact: CallbackAttempted


@dataclass(frozen=True, slots=True, kw_only=True)
class Defer:
    """Append `postponed` to the tier of `delay_ms`: nothing has happened yet."""

    postponed: Delivery
    delay_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Abandon:
    """Append `letter` to the dead-letter queue, then record the facts in their order."""

    letter: DeliveryDeadLettered
    facts: tuple[CallbackEvent, ...]


def expect(state: CallbackState, delivery: Delivery) -> CallbackState:
    """`state` as `delivery` implies it: it tells of its replay before the fact does, and of its deferrals."""
    if delivery.replay_count < state.replay_count or state.status is CallbackStatus.DELIVERED:
        return state
    if delivery.replay_count > state.replay_count:
        state = CallbackState(replay_count=delivery.replay_count)
    if (delivery.attempt, delivery.deferrals) <= (state.attempts + 1, state.deferrals):
        return state
    return replace(state, attempts=delivery.attempt - 1, deferrals=delivery.deferrals)


def decide_delivery(state: CallbackState, delivery: Delivery) -> Refusal | None:
    """Whether `delivery` is still to be made: not when it is settled, nor when a later one is known.

    The same delivery comes again when the work between an attempt and its offset's commit is repeated, and
    when an append whose acknowledgement was late is repeated: of two that are deferred, one goes on.
    """
    if delivery.replay_count < state.replay_count:
        return Refusal.STALE
    expected = expect(state, delivery)
    if expected.status in _SETTLED:
        return Refusal.SETTLED
    due = (expected.attempts + 1, expected.deferrals)
    return Refusal.STALE if (delivery.attempt, delivery.deferrals) < due else None


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
                wait_ms=not_before_ms - attempt.at_ms,
                fact=_attempted(delivery, attempt, retry_at_ms=not_before_ms),
            )
        case GiveUp(reason):
            abandoned = _abandon(
                _remember(delivery, attempt),
                reason,
                attempt.message,
                attempts=delivery.attempt,
                failed_at_ms=attempt.at_ms,
                now_ms=attempt.at_ms,
            )
            last = _attempted(delivery, attempt, retry_at_ms=None)
            return replace(abandoned, facts=(last, *abandoned.facts))


def decide_deferral(
    delivery: Delivery, policy: DeferralPolicy, reason: str, *, now_ms: int, delay_ms: int, jitter: float
) -> Defer | Abandon:
    """What follows when `delivery` cannot be attempted now and is to wait in the tier of `delay_ms`.

    One that has been deferred for as long as the policy allows is given up.
    """
    since_ms = now_ms if delivery.deferred_since_ms is None else delivery.deferred_since_ms
    if now_ms - since_ms >= policy.limit_ms:
        message = f"could not be attempted for {(now_ms - since_ms) // 1000} s ({reason})"
        return _abandon_unattempted(delivery, GiveUpReason.UNAVAILABLE, message, now_ms)
    postponed = replace(
        delivery,
        not_before_ms=now_ms + with_jitter(delay_ms, jitter),
        deferrals=delivery.deferrals + 1,
        deferred_since_ms=since_ms,
    )
    return Defer(postponed=postponed, delay_ms=delay_ms)


def decide_disabled(delivery: Delivery, message: str, *, now_ms: int) -> Abandon:
    """What follows when the destination of `delivery` is disabled: no attempt is made any more."""
    return _abandon_unattempted(delivery, GiveUpReason.DISABLED, message, now_ms)


def _abandon_unattempted(delivery: Delivery, reason: GiveUpReason, message: str, now_ms: int) -> Abandon:
    failed_at_ms = delivery.history[-1].at_ms if delivery.history else now_ms
    made = delivery.attempt - 1
    return _abandon(delivery, reason, message, attempts=made, failed_at_ms=failed_at_ms, now_ms=now_ms)


def _abandon(
    delivery: Delivery, reason: GiveUpReason, message: str, *, attempts: int, failed_at_ms: int, now_ms: int
) -> Abandon:
    message = message[:MESSAGE_KEPT]
    return Abandon(
        letter=DeliveryDeadLettered(
            delivery=delivery,
            reason=reason,
            message=message,
            last_failed_at_ms=failed_at_ms,
            dead_lettered_at_ms=now_ms,
        ),
        facts=(
            CallbackDeadLettered(
                **facts_of(delivery),
                url=delivery.url,
                reason=reason,
                attempts=attempts,
                at_ms=now_ms,
                message=message,
            ),
        ),
    )


def _postponed(delivery: Delivery, attempt: FailedAttempt, not_before_ms: int) -> Delivery:
    return replace(
        _remember(delivery, attempt),
        attempt=delivery.attempt + 1,
        not_before_ms=not_before_ms,
        deferrals=0,
        deferred_since_ms=None,
    )


def _remember(delivery: Delivery, attempt: FailedAttempt) -> Delivery:
    """`delivery` with the summary of `attempt` in its bounded history."""
    summary = AttemptSummary(
        attempt=delivery.attempt,
        at_ms=attempt.at_ms,
        duration_ms=attempt.duration_ms,
        error_class=attempt.error_class,
        status=attempt.status,
        message=attempt.message[:MESSAGE_KEPT],
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
        message=attempt.message[:MESSAGE_KEPT],
        response_excerpt=attempt.response_excerpt,
        retry_at_ms=retry_at_ms,
    )
