"""How a task in a slot went: what its process answered, or how it died, as values of the domain. Pure."""

import os
import signal
from dataclasses import dataclass
from typing import Final

from services.compute.slot_protocol import Answer, AnswerKind
from shared.domain.requests import Failure, FailureCode

__all__ = ["Completed", "Failed", "Outcome", "answered", "died"]

_CODES: Final[dict[AnswerKind, FailureCode]] = {
    "raised": FailureCode.OPERATION_ERROR,
    "memory": FailureCode.MEMORY,
    "invalid_input": FailureCode.INVALID_INPUT,
    "unknown_operation": FailureCode.UNKNOWN_OPERATION,
    "invalid_result": FailureCode.INVALID_RESULT,
    "too_large": FailureCode.RESULT_TOO_LARGE,
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


Outcome = Completed | Failed


def answered(answer: Answer, body: bytes) -> Outcome:
    """The outcome of a task whose process lived to tell."""
    if answer.kind == "completed":
        return Completed(result=body, compute_ms=answer.compute_ms, peak_rss_bytes=answer.peak_rss_bytes)
    failure = Failure(
        code=_CODES[answer.kind],
        message=answer.message,
        type=answer.error_type or None,
        peak_rss_bytes=answer.peak_rss_bytes,
    )
    return Failed(failure=failure, compute_ms=answer.compute_ms, fields=answer.fields)


def died(
    status: int | None,
    *,
    stopped_for: FailureCode | None,
    violation: str,
    limit_ms: int,
    elapsed_ms: float,
    peak_rss_bytes: int | None,
) -> Failed:
    """The outcome of a task whose process is gone.

    Args:
        status: as from `wait`; None when the process would not even die in time.
        stopped_for: why the consumer killed it, if it did.
        violation: how the slot broke the protocol, if it did, for which it was killed.
        limit_ms: the task's time limit.
        elapsed_ms: from the hand-over to now.
        peak_rss_bytes: what the task used at most, if known.
    """
    code = None if status is None else os.waitstatus_to_exitcode(status)
    if stopped_for is None and code == -signal.SIGKILL and elapsed_ms >= limit_ms:
        stopped_for = FailureCode.TIMEOUT
    failure = Failure(
        code=stopped_for or FailureCode.CRASHED,
        message=_words(code, stopped_for, violation, limit_ms),
        signal=_signal_name(-code) if code is not None and code < 0 else None,
        exit_code=code if code is not None and code >= 0 else None,
        limit_ms=limit_ms if stopped_for is FailureCode.TIMEOUT else None,
        peak_rss_bytes=peak_rss_bytes,
    )
    return Failed(failure=failure, compute_ms=round(elapsed_ms, 3))


def _words(code: int | None, stopped_for: FailureCode | None, violation: str, limit_ms: int) -> str:
    if stopped_for is FailureCode.TIMEOUT:
        return f"the operation was killed at its time limit of {limit_ms} ms"
    if stopped_for is not None:
        return f"the operation was killed while it ran: {stopped_for.value}"
    if violation and code in (None, -signal.SIGKILL):
        return f"the process of the operation {violation}"
    if code is None or code >= 0:
        return f"the process of the operation ended with exit code {code} before it had a result"
    hint = ", which memory pressure or a person may have sent" if code == -signal.SIGKILL else ""
    return f"the process of the operation was killed by {_signal_name(-code)}{hint}"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
