"""How a death is told."""

import signal
from typing import Any, Final

import pytest

from services.compute.slot_outcome import died
from services.compute.slot_protocol import Exited
from shared.domain.requests import FailureCode

KILLED: Final = int(signal.SIGKILL)
EXIT: Final = 256


@pytest.mark.parametrize(
    ("death", "code", "words"),
    [
        ({"status": int(signal.SIGSEGV)}, FailureCode.CRASHED, "killed by SIGSEGV"),
        ({"status": int(signal.SIGSEGV) | 128}, FailureCode.CRASHED, "killed by SIGSEGV"),
        ({"status": 40}, FailureCode.CRASHED, "killed by signal 40"),
        ({"status": 7 * EXIT}, FailureCode.CRASHED, "exit code 7"),
        ({"status": 0}, FailureCode.CRASHED, "exit code 0"),
        ({"status": KILLED}, FailureCode.CRASHED, "memory pressure"),
        ({"status": KILLED, "violation": "broke the protocol"}, FailureCode.CRASHED, "broke the protocol"),
        ({"status": 5 * EXIT, "violation": "broke the protocol"}, FailureCode.CRASHED, "exit code 5"),
        ({"status": KILLED, "stopped_for": FailureCode.TIMEOUT}, FailureCode.TIMEOUT, "limit of 1000 ms"),
        (
            {"status": int(signal.SIGSEGV), "stopped_for": FailureCode.TIMEOUT, "elapsed_ms": 1001.0},
            FailureCode.CRASHED,
            "killed by SIGSEGV",
        ),
        ({"status": EXIT, "stopped_for": FailureCode.TIMEOUT}, FailureCode.CRASHED, "exit code 1"),
        ({"status": KILLED, "elapsed_ms": 1001.0}, FailureCode.TIMEOUT, "limit of 1000 ms"),
        ({"status": 3 * EXIT, "elapsed_ms": 1001.0}, FailureCode.CRASHED, "exit code 3"),
        ({"status": KILLED, "stopped_for": FailureCode.CANCELLED}, FailureCode.CANCELLED, "cancelled"),
        ({"status": KILLED, "exceeded": "memory"}, FailureCode.MEMORY, "more memory than it may have"),
        ({"status": KILLED, "exceeded": "processes"}, FailureCode.CRASHED, "more processes"),
        ({"status": KILLED, "exceeded": "memory", "elapsed_ms": 1001.0}, FailureCode.MEMORY, "memory"),
        ({"status": None}, FailureCode.CRASHED, "would not die"),
        ({"status": None, "stopped_for": FailureCode.TIMEOUT}, FailureCode.TIMEOUT, "limit of 1000 ms"),
    ],
)
def test_a_death_tells_its_reason(death: dict[str, Any], code: FailureCode, words: str) -> None:
    facts = {"elapsed_ms": 12.3456} | death
    status, exceeded = facts.pop("status"), facts.pop("exceeded", "")
    exited = Exited(slot=1, status=status, peak_rss_bytes=5, at_s=0, exceeded=exceeded)
    failure = died(None if status is None else exited, limit_ms=1000, **facts).failure
    assert failure.code is code
    assert words in failure.message
    assert (failure.limit_ms == 1000) is (code is FailureCode.TIMEOUT)
    assert failure.signal is None or failure.exit_code is None
