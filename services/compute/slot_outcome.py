"""How a task in a slot went: what its process replied, or how it died, as values of the domain. Pure."""

import os
import signal
from dataclasses import dataclass
from typing import Final

from services.compute.slot_protocol import Exceeded, Exited, ReplyKind, TaskReply
from shared.domain.requests import Failure, FailureCode

__all__ = ["Completed", "Failed", "TaskResult", "died", "replied"]

_CODES: Final[dict[ReplyKind, FailureCode]] = {
    "raised": FailureCode.OPERATION_ERROR,
    "memory": FailureCode.MEMORY,
    "invalid_input": FailureCode.INVALID_INPUT,
    "unknown_operation": FailureCode.UNKNOWN_OPERATION,
    "invalid_result": FailureCode.INVALID_RESULT,
    "too_large": FailureCode.RESULT_TOO_LARGE,
}
_EXCEEDED: Final[dict[Exceeded, str]] = {
    "memory": "the processes of the operation, with their files in TMPDIR, took more memory than it may have",
    "processes": "the operation was killed: it had more processes than it may have at a time",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Completed:
    """The operation returned; `result` is canonical JSON."""

    result: bytes
    compute_ms: float
    peak_rss_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """There is no result, and why; `fields` of an invalid input are named with what is wrong there."""

    failure: Failure
    compute_ms: float
    fields: tuple[tuple[str, str], ...] = ()


TaskResult = Completed | Failed


def replied(reply: TaskReply, body: bytes) -> TaskResult:
    """The result of a task whose process lived to tell."""
    if reply.kind == "completed":
        return Completed(result=body, compute_ms=reply.compute_ms, peak_rss_bytes=reply.peak_rss_bytes)
    failure = Failure(
        code=_CODES[reply.kind],
        message=reply.message,
        type=reply.error_type or None,
        peak_rss_bytes=reply.peak_rss_bytes,
    )
    return Failed(failure=failure, compute_ms=reply.compute_ms, fields=reply.fields)


def died(
    exited: Exited | None,
    *,
    elapsed_ms: float,
    limit_ms: int,
    stopped_for: FailureCode | None = None,
    violation: str = "",
) -> Failed:
    """The result of a task whose process is gone.

    Args:
        exited: how it died; None when it would not even die in time.
        elapsed_ms: from the hand-over of the task to the death.
        limit_ms: the task's time limit.
        stopped_for: why the consumer killed it, if it did; a death before that kill tells its own reason.
        violation: how the slot broke the protocol, if it did, for which it was killed.
    """
    code = None if exited is None else os.waitstatus_to_exitcode(exited.status)
    exceeded: Exceeded = exited.exceeded if exited is not None and code == -signal.SIGKILL else ""
    died_before_the_kill = stopped_for is FailureCode.TIMEOUT and code not in (None, -signal.SIGKILL)
    reason = None if died_before_the_kill else stopped_for
    if reason is None and exceeded == "memory":
        reason = FailureCode.MEMORY
    elif reason is None and not exceeded and code == -signal.SIGKILL and elapsed_ms >= limit_ms:
        reason = FailureCode.TIMEOUT
    failure = Failure(
        code=reason or FailureCode.CRASHED,
        message=_words(code, reason, exceeded, violation, limit_ms),
        signal=_signal_name(-code) if code is not None and code < 0 else None,
        exit_code=code if code is not None and code >= 0 else None,
        limit_ms=limit_ms if reason is FailureCode.TIMEOUT else None,
        peak_rss_bytes=exited.peak_rss_bytes if exited else None,
    )
    return Failed(failure=failure, compute_ms=round(elapsed_ms, 3))


def _words(
    code: int | None, reason: FailureCode | None, exceeded: Exceeded, violation: str, limit_ms: int
) -> str:
    if reason is FailureCode.TIMEOUT:
        return f"the operation was killed at its time limit of {limit_ms} ms"
    if exceeded and reason in (None, FailureCode.MEMORY):
        return _EXCEEDED[exceeded]
    if reason is not None:
        return f"the operation was killed while it ran: {reason.value}"
    if violation and code in (None, -signal.SIGKILL):
        return f"the process of the operation {violation}"
    if code is None:
        return "the process of the operation would not die"
    if code >= 0:
        return f"the process of the operation ended with exit code {code} before it had a result"
    hint = ", which memory pressure or a person may have sent" if code == -signal.SIGKILL else ""
    return f"the process of the operation was killed by {_signal_name(-code)}{hint}"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
