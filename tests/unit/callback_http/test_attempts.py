"""What an answer means for its delivery, and for its destination."""

import pytest

from services.callback.attempts import attempt_of, disabling_reason
from services.callback.call import Answer, CallFailure
from shared.domain.callbacks import FailedAttempt, SuccessfulAttempt
from shared.domain.retry_policy import ErrorClass


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
def test_every_2xx_is_a_success(status: int) -> None:
    attempt = attempt_of(Answer(status=status, delivery="abort-message"), at_ms=5, duration_ms=1.5)
    assert attempt == SuccessfulAttempt(status=status, at_ms=5, duration_ms=1.5)


def test_a_failure_keeps_what_the_receiver_said() -> None:
    answer = Answer(status=503, retry_after="2.5", excerpt="busy")
    attempt = attempt_of(answer, at_ms=5, duration_ms=1.0)
    assert isinstance(attempt, FailedAttempt)
    assert (attempt.error_class, attempt.status) == (ErrorClass.HTTP_5XX, 503)
    assert (attempt.retry_after_ms, attempt.response_excerpt) == (2_500, "busy")


def test_a_receiver_can_refuse_one_message_for_good() -> None:
    attempt = attempt_of(Answer(status=500, delivery=" Abort-Message "), at_ms=5, duration_ms=1.0)
    assert isinstance(attempt, FailedAttempt)
    assert attempt.error_class is ErrorClass.ABORTED


@pytest.mark.parametrize(
    ("outcome", "disables"),
    [
        (Answer(status=410), True),
        (Answer(status=200, delivery="disable"), True),
        (Answer(status=500, delivery="DISABLE"), True),
        (Answer(status=500, delivery="abort-message"), False),
        (Answer(status=200), False),
        (Answer(status=404), False),
        (CallFailure(error_class=ErrorClass.RESET, message=""), False),
    ],
)
def test_who_wants_no_more(outcome: Answer | CallFailure, *, disables: bool) -> None:
    assert (disabling_reason(outcome) is not None) == disables
