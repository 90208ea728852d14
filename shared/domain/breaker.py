"""When to leave a destination alone: a circuit breaker, as a value and functions of it and the time.

Closed, it counts failures in a row. Open, it refuses until its time has come; then a single probe goes
through, and that probe alone decides: success closes it, failure opens it for longer. What was under way when
it opened changes nothing, good or bad.
"""

from dataclasses import dataclass, replace
from enum import Enum
from typing import Final

from shared.domain.retry_policy import ErrorClass

__all__ = [
    "CLOSED",
    "Admitted",
    "Breaker",
    "BreakerPolicy",
    "Refused",
    "Signal",
    "admission",
    "hold",
    "origin_signal",
    "settle",
    "start_probe",
    "url_signal",
]


class Signal(Enum):
    """What the end of a call says about a destination."""

    GOOD = "good"
    BAD = "bad"
    NONE = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerPolicy:
    """Opens after `failures` in a row for `open_ms`, doubled at every failed probe up to `max_open_ms`.

    A probe that has not ended after `probe_ms` counts as lost: another one may go.
    """

    failures: int = 5
    open_ms: int = 5_000
    max_open_ms: int = 60_000
    probe_ms: int = 60_000

    def open_for_ms(self, trips: int) -> int:
        """How long it stays open the `trips`-th time in a row (from 1)."""
        return min(self.open_ms << min(trips - 1, 32), self.max_open_ms)


@dataclass(frozen=True, slots=True, kw_only=True)
class Breaker:
    """The state of one destination. It is open while `open_until_ms` is set."""

    failures: int = 0
    trips: int = 0
    open_until_ms: int | None = None
    probe_until_ms: int | None = None


CLOSED: Final = Breaker()


@dataclass(frozen=True, slots=True)
class Admitted:
    """The call may be made; as the one probe of an open breaker, if `probe`."""

    probe: bool = False


@dataclass(frozen=True, slots=True)
class Refused:
    """Not now; asking is pointless before `until_ms`."""

    until_ms: int


def admission(breaker: Breaker, now_ms: int) -> Admitted | Refused:
    """Whether a call may be made now. One that is admitted as a probe must `start_probe`."""
    if breaker.open_until_ms is None:
        return Admitted()
    if now_ms < breaker.open_until_ms:
        return Refused(breaker.open_until_ms)
    if breaker.probe_until_ms is not None and now_ms < breaker.probe_until_ms:
        return Refused(now_ms)
    return Admitted(probe=True)


def start_probe(breaker: Breaker, policy: BreakerPolicy, now_ms: int) -> Breaker:
    """The breaker while its probe is under way."""
    return replace(breaker, probe_until_ms=now_ms + policy.probe_ms)


def settle(
    breaker: Breaker, signal: Signal, policy: BreakerPolicy, now_ms: int, *, probe: bool = False
) -> Breaker:
    """The breaker after a call, or a probe, has ended with `signal`."""
    if breaker.open_until_ms is not None:
        return _settle_open(breaker, signal, policy, now_ms) if probe else breaker
    match signal:
        case Signal.GOOD:
            return CLOSED
        case Signal.BAD if breaker.failures + 1 < policy.failures:
            return replace(breaker, failures=breaker.failures + 1)
        case Signal.BAD:
            return _opened(breaker, policy, now_ms)
        case Signal.NONE:
            return breaker


def hold(breaker: Breaker, until_ms: int) -> Breaker:
    """The breaker of a destination that asked to be left alone until then."""
    open_until_ms = max(until_ms, breaker.open_until_ms or 0)
    return replace(breaker, open_until_ms=open_until_ms, probe_until_ms=None)


def _settle_open(breaker: Breaker, signal: Signal, policy: BreakerPolicy, now_ms: int) -> Breaker:
    match signal:
        case Signal.GOOD:
            return CLOSED
        case Signal.BAD:
            return _opened(breaker, policy, now_ms)
        case Signal.NONE:
            return replace(breaker, probe_until_ms=None)


def _opened(breaker: Breaker, policy: BreakerPolicy, now_ms: int) -> Breaker:
    trips = breaker.trips + 1
    return Breaker(trips=trips, open_until_ms=now_ms + policy.open_for_ms(trips))


_UNREACHABLE: Final = (ErrorClass.REFUSED, ErrorClass.DNS, ErrorClass.TLS, ErrorClass.TIMEOUT_CONNECT)
_UNWELL: Final = (
    ErrorClass.TIMEOUT_RESPONSE,
    ErrorClass.RESET,
    ErrorClass.PROTOCOL,
    ErrorClass.HTTP_5XX,
    ErrorClass.HTTP_429,
    ErrorClass.HTTP_RETRYABLE_4XX,
)


def origin_signal(error_class: ErrorClass | None) -> Signal:
    """What an attempt, failed with `error_class` or successful, says about the whole origin.

    Only what no path and no submitter can bring about speaks against it; else one of them could stop the
    callbacks of all others on a shared host.
    """
    if error_class is ErrorClass.FORBIDDEN:
        return Signal.NONE
    return Signal.BAD if error_class in _UNREACHABLE else Signal.GOOD


def url_signal(error_class: ErrorClass | None) -> Signal:
    """What it says about this URL for this submitter. An answer that refuses one message is a good sign."""
    if error_class is ErrorClass.FORBIDDEN or error_class in _UNREACHABLE:
        return Signal.NONE
    return Signal.BAD if error_class in _UNWELL else Signal.GOOD
