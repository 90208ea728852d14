"""One line in the log, and the counts, for every attempt and every delivery put off."""

from typing import Final

import structlog

from services.callback import metrics
from services.callback.ports import Deferred, Disabled, Dispatched
from shared.domain.callback_urls import shown_url
from shared.domain.callbacks import Delivery, FailedAttempt, SuccessfulAttempt
from shared.domain.delivering import Abandon, Defer, Delivered, TryAgain
from shared.kafka.records import Record

__all__ = ["log_attempt"]

log = structlog.get_logger()

DELIVERED: Final = "delivered"


def log_attempt(
    record: Record,
    delivery: Delivery,
    dispatched: Dispatched,
    decision: Delivered | TryAgain | Defer | Abandon,
) -> None:
    """Count and log what came of `delivery`, once that is in the log."""
    _count(dispatched)
    line = log.bind(
        id=delivery.request_id,
        webhook_id=delivery.webhook_id,
        url=shown_url(delivery.url),
        position=record.position,
        attempt=delivery.attempt,
        replay_count=delivery.replay_count,
    )
    match dispatched:
        case SuccessfulAttempt():
            line.debug("callback.delivered", status=dispatched.status, ms=round(dispatched.duration_ms, 1))
        case FailedAttempt():
            line = line.bind(
                error=dispatched.error_class,
                status=dispatched.status,
                ms=round(dispatched.duration_ms, 1),
                message=dispatched.message,
            )
        case Deferred():
            line.debug("callback.deferred", reason=dispatched.reason, deferrals=delivery.deferrals + 1)
        case Disabled():
            pass
    match decision:
        case TryAgain():
            line.info("callback.failed", retry_at_ms=decision.postponed.not_before_ms)
        case Abandon():
            letter = decision.letter
            line.warning("callback.given_up", reason=letter.reason, why=letter.message)


def _count(dispatched: Dispatched) -> None:
    match dispatched:
        case SuccessfulAttempt() | FailedAttempt():
            result = dispatched.error_class if isinstance(dispatched, FailedAttempt) else DELIVERED
            metrics.ATTEMPTS.labels(result).inc()
            metrics.ATTEMPT_SECONDS.labels(result).observe(dispatched.duration_ms / 1000)
        case Deferred():
            metrics.DEFERRED.labels(dispatched.reason).inc()
