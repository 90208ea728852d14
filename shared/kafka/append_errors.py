"""Why a record could not be appended to the log, and what that means for it."""

from typing import Final

from aiokafka.errors import (
    InvalidTimestampError,
    InvalidTopicError,
    KafkaError,
    MessageSizeTooLargeError,
    RecordListTooLargeError,
    TopicAuthorizationFailedError,
)

__all__ = ["LogError", "LogUnavailable", "RecordTooLarge", "SendRefused", "SendUnknown", "log_error"]

_TOO_LARGE: Final = (MessageSizeTooLargeError, RecordListTooLargeError)
_REFUSALS: Final = (InvalidTopicError, InvalidTimestampError, TopicAuthorizationFailedError)


class LogError(Exception):
    """A record could not be appended."""


class SendUnknown(LogError):  # noqa: N818 - an outcome that callers name, not a fault
    """No acknowledgement: the record may or may not be written, now or later."""


class LogUnavailable(LogError):  # noqa: N818 - see above
    """The record is not written, and trying again may help."""


class SendRefused(LogError):  # noqa: N818 - see above
    """The record is not written and can never be: it is too large, or its topic is absent or not allowed."""


class RecordTooLarge(SendRefused):
    """The topic takes no record of that size."""


def log_error(topic: str, error: KafkaError, *, sent: bool) -> LogError:
    """What an error of the client library means for a record, which the broker may have if it was `sent`."""
    problem = f"{topic}: {type(error).__name__}: {error}"
    if isinstance(error, _TOO_LARGE):
        return RecordTooLarge(problem)
    if isinstance(error, _REFUSALS):
        return SendRefused(problem)
    return (SendUnknown if sent else LogUnavailable)(problem)
