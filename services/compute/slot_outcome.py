"""How a task in a slot went: what its process replied, or how it died, as values of the domain. Pure."""

import os
import signal
from dataclasses import dataclass
from typing import Final

from services.compute.slot_protocol import ReplyKind, TaskReply
from shared.domain.requests import Failure, FailureCode

__all__ = ["Completed", "Death", "Failed", "TaskResult", "died", "replied"]

_CODES: Final[dict[ReplyKind, FailureCode]] = {
    "raised": FailureCode.OPERATION_ERROR,
    "memory": FailureCode.MEMORY,
    "invalid_input": FailureCode.INVALID_INPUT,
    "unknown_operation": FailureCode.UNKNOWN_OPERATION,
    "invalid_result": FailureCode.INVALID_RESULT,
    "too_large": FailureCode.RESULT_TOO_LARGE,
}
_EXCEEDED: Final = {
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Death:
    """The end of a task's process.

    Args:
        status: as from `wait`; None when the process would not even die in time.
        elapsed_ms: from the hand-over of the task to the death.
        limit_ms: the task's time limit.
        stopped_for: why the consumer killed it, if it did.
        exceeded: the limit that the server killed it for, if it did.
        violation: how the slot broke the protocol, if it did, for which it was killed.
        peak_rss_bytes: what the task used at most, if known.
    """

    status: int | None
    elapsed_ms: float
    limit_ms: int
    stopped_for: FailureCode | None = None
    exceeded: str = ""
    violation: str = ""
    peak_rss_bytes: int | None = None


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


def died(death: Death) -> Failed:
    """The result of a task whose process is gone."""
    code = None if death.status is None else os.waitstatus_to_exitcode(death.status)
    reason = death.stopped_for
    if reason is None and code == -signal.SIGKILL:
        if death.exceeded == "memory":
            reason = FailureCode.MEMORY
        elif not death.exceeded and death.elapsed_ms >= death.limit_ms:
            reason = FailureCode.TIMEOUT
    failure = Failure(
        code=reason or FailureCode.CRASHED,
        message=_words(death, code, reason),
        signal=_signal_name(-code) if code is not None and code < 0 else None,
        exit_code=code if code is not None and code >= 0 else None,
        limit_ms=death.limit_ms if reason is FailureCode.TIMEOUT else None,
        peak_rss_bytes=death.peak_rss_bytes,
    )
    return Failed(failure=failure, compute_ms=round(death.elapsed_ms, 3))


def _words(death: Death, code: int | None, reason: FailureCode | None) -> str:
    if reason is FailureCode.TIMEOUT:
        return f"the operation was killed at its time limit of {death.limit_ms} ms"
    if death.stopped_for is not None:
        return f"the operation was killed while it ran: {death.stopped_for.value}"
    if code in (None, -signal.SIGKILL) and (death.exceeded or death.violation):
        return _EXCEEDED.get(death.exceeded, f"the process of the operation {death.violation}")
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
