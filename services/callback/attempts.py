"""From the end of a call to the attempt that retrying is decided by. Pure."""

from services.callback.call import Answer, CallFailure
from shared.domain.callbacks import FailedAttempt, SuccessfulAttempt
from shared.domain.retry_after import retry_after_ms
from shared.domain.retry_policy import ErrorClass, classify_status

__all__ = ["ABORT_MESSAGE", "DISABLE", "attempt_of", "disabling_reason"]

DISABLE = "disable"
ABORT_MESSAGE = "abort-message"
"""What a receiver may answer in the header `webhook-delivery`."""

GONE = 410


def attempt_of(
    outcome: Answer | CallFailure, *, at_ms: int, duration_ms: float
) -> SuccessfulAttempt | FailedAttempt:
    """What `outcome`, which came at `at_ms`, says of the delivery."""
    if isinstance(outcome, CallFailure):
        return FailedAttempt(
            error_class=outcome.error_class, at_ms=at_ms, duration_ms=duration_ms, message=outcome.message
        )
    error_class = classify_status(outcome.status)
    if error_class is None:
        return SuccessfulAttempt(status=outcome.status, at_ms=at_ms, duration_ms=duration_ms)
    aborted = _asks(outcome, ABORT_MESSAGE)
    return FailedAttempt(
        error_class=ErrorClass.ABORTED if aborted else error_class,
        at_ms=at_ms,
        duration_ms=duration_ms,
        message=_message(outcome, aborted=aborted),
        status=outcome.status,
        retry_after_ms=retry_after_ms(outcome.retry_after, at_ms),
        response_excerpt=outcome.excerpt,
    )


def disabling_reason(outcome: Answer | CallFailure) -> str | None:
    """Why the receiver wants no more callbacks at this URL, or None when it has not said so."""
    if not isinstance(outcome, Answer):
        return None
    if outcome.status == GONE:
        return "answered 410"
    return f"answered {outcome.status} with webhook-delivery: {DISABLE}" if _asks(outcome, DISABLE) else None


def _asks(answer: Answer, request: str) -> bool:
    return answer.delivery is not None and answer.delivery.strip().lower() == request


def _message(answer: Answer, *, aborted: bool) -> str:
    if aborted:
        return f"answered {answer.status} and wants this message no more"
    return f"answered {answer.status}"
