"""One call as values: what is sent, and the three ways in which it ends."""

from dataclasses import dataclass, field

from shared.domain.retry_policy import ErrorClass

__all__ = ["Answer", "Call", "CallFailure", "NotBegun", "NotBegunError"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A POST to be made. `timeout_s` bounds all of it."""

    url: str
    headers: dict[str, str] = field(repr=False)
    body: bytes = field(repr=False)
    timeout_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A status line and headers arrived. Its body is of no account: `excerpt` is what came of it."""

    status: int
    retry_after: str | None = None
    delivery: str | None = None
    excerpt: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CallFailure:
    """No answer arrived. `message` is fit to be shown: it holds neither query strings nor user names."""

    error_class: ErrorClass
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NotBegun:
    """The call could not even be tried, for want of something of ours: a descriptor, a name server, a proxy.

    No attempt, and no fault of the receiver. `message` is for operators.
    """

    message: str


class NotBegunError(Exception):
    """Something of ours is missing that a call needs; in words for operators."""
