"""When to try a delivery again: error class, attempt and policy decide; nothing else does.

What can heal is retried on a fixed ladder with a little added jitter. Added, never multiplied: a tier of
equal delays stays first in, first out, and a record is never early. What cannot heal is given up at once.
What could not even be attempted (the destination is busy, or known to be down) waits on a ladder of its own.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import zip_longest
from typing import Final

__all__ = [
    "DEFAULT_DEFERRALS_MS",
    "DEFAULT_LADDER_MS",
    "DeferralPolicy",
    "ErrorClass",
    "GiveUp",
    "GiveUpReason",
    "Retry",
    "RetryPolicy",
    "Verdict",
    "classify_status",
    "decide_retry",
    "deferral_ms",
    "with_jitter",
]


class ErrorClass(StrEnum):
    """What went wrong with one attempt, by what it says about trying again."""

    REFUSED = "refused"
    DNS = "dns"
    TLS = "tls"
    TIMEOUT_CONNECT = "timeout_connect"
    TIMEOUT_RESPONSE = "timeout_response"
    RESET = "reset"
    PROTOCOL = "protocol"
    HTTP_5XX = "http_5xx"
    HTTP_429 = "http_429"
    HTTP_RETRYABLE_4XX = "http_retryable_4xx"
    HTTP_4XX = "http_4xx"
    HTTP_410 = "http_410"
    HTTP_3XX = "http_3xx"
    FORBIDDEN = "forbidden"
    ABORTED = "aborted"


class GiveUpReason(StrEnum):
    """Why a delivery became a dead letter."""

    EXHAUSTED = "exhausted"
    TERMINAL = "terminal"
    GONE = "gone"
    FORBIDDEN = "forbidden"
    ABORTED = "aborted_by_receiver"
    DISABLED = "destination_disabled"
    UNAVAILABLE = "destination_unavailable"


_TERMINAL: Final[Mapping[ErrorClass, GiveUpReason]] = {
    ErrorClass.HTTP_4XX: GiveUpReason.TERMINAL,
    ErrorClass.HTTP_3XX: GiveUpReason.TERMINAL,
    ErrorClass.HTTP_410: GiveUpReason.GONE,
    ErrorClass.FORBIDDEN: GiveUpReason.FORBIDDEN,
    ErrorClass.ABORTED: GiveUpReason.ABORTED,
}

DEFAULT_LADDER_MS: Final = (1_000, 5_000, 30_000, 120_000, 600_000, 3_600_000)
"""Delays before the second and later attempts: one rung for each retry tier."""

DEFAULT_DEFERRALS_MS: Final = (1_000, 1_000, 5_000, 5_000, 5_000, 30_000, 30_000, 30_000, 120_000)
"""Waits of what could not be attempted: about a third of the time waited so far, so that a busy destination
is asked again soon while its backlog is short, and a long backlog costs little."""

JITTER_SHARE: Final = 0.1
JITTER_CAP_MS: Final = 900
"""Less than the last second of a wait, which memory holds: jitter needs no further append."""

LONGEST_DEFERRAL_MS: Final = 3_600_000
"""Where so many wait that shorter ones have no turns left."""

_REQUEST_TIMEOUT: Final = 408
_TOO_EARLY: Final = 425
_TOO_MANY: Final = 429
_GONE: Final = 410


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """Ladders of delays in ms: `ladders` per error class, `ladder_ms` for every other class.

    `retry_after_cap_ms` bounds what a receiver may ask for.
    """

    ladder_ms: tuple[int, ...] = DEFAULT_LADDER_MS
    ladders: Mapping[ErrorClass, tuple[int, ...]] = field(default_factory=dict)
    retry_after_cap_ms: int = 3_600_000

    def ladder(self, error_class: ErrorClass) -> tuple[int, ...]:
        """Delays before attempts 2, 3, … after an error of this class."""
        return self.ladders.get(error_class, self.ladder_ms)

    def most_attempts(self) -> int:
        """The most attempts that any delivery gets."""
        return 1 + max(map(len, self._all_ladders()))

    def worst_case_ms(self) -> int:
        """Longest time from the first failure until a delivery is given up, waits only.

        Each failure may be of another class, so every rung counts with the longest wait of all ladders.
        """
        rungs = zip_longest(*self._all_ladders(), fillvalue=0)
        return sum(self._longest_wait_ms(max(delays_ms)) for delays_ms in rungs)

    def _all_ladders(self) -> tuple[tuple[int, ...], ...]:
        return (self.ladder_ms, *self.ladders.values())

    def _longest_wait_ms(self, delay_ms: int) -> int:
        longest_ms = max(delay_ms, self.retry_after_cap_ms)
        return with_jitter(longest_ms, 1.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeferralPolicy:
    """Shortest waits in ms between tries to attempt a delivery to a destination that is left alone.

    The last is repeated until `limit_ms` have passed.
    """

    ladder_ms: tuple[int, ...] = DEFAULT_DEFERRALS_MS
    limit_ms: int = 24 * 3_600_000

    def step_ms(self, step: int) -> int:
        """The wait at a step of the ladder, from 0."""
        return self.ladder_ms[min(step, len(self.ladder_ms) - 1)]

    def worst_case_ms(self) -> int:
        """Longest time that one attempt can be put off."""
        return self.limit_ms + with_jitter(max(*self.ladder_ms, LONGEST_DEFERRAL_MS), 1.0)


@dataclass(frozen=True, slots=True)
class Retry:
    """Try again, not before `not_before_ms`."""

    not_before_ms: int


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Make it a dead letter."""

    reason: GiveUpReason


Verdict = Retry | GiveUp


def decide_retry(
    policy: RetryPolicy,
    error_class: ErrorClass,
    *,
    attempt: int,
    now_ms: int,
    jitter: float,
    retry_after_ms: int | None = None,
) -> Verdict:
    """What follows the failed `attempt` (1-based); `jitter` is a number drawn from [0, 1)."""
    terminal = _TERMINAL.get(error_class)
    if terminal is not None:
        return GiveUp(terminal)
    ladder = policy.ladder(error_class)
    if attempt > len(ladder):
        return GiveUp(GiveUpReason.EXHAUSTED)
    delay_ms = ladder[attempt - 1]
    if retry_after_ms is not None:
        delay_ms = max(delay_ms, min(retry_after_ms, policy.retry_after_cap_ms))
    return Retry(now_ms + with_jitter(delay_ms, jitter))


def deferral_ms(policy: DeferralPolicy, deferrals: int, asked_ms: int) -> int:
    """How long one that was deferred `deferrals` times waits at least for a destination that is down.

    `asked_ms` is the wait until its turn.
    """
    return max(policy.step_ms(deferrals), asked_ms)


def classify_status(status: int) -> ErrorClass | None:
    """Error class of an HTTP status, or None for a success. Informational ones are protocol errors."""
    if 200 <= status < 300:
        return None
    if status in (_REQUEST_TIMEOUT, _TOO_EARLY):
        return ErrorClass.HTTP_RETRYABLE_4XX
    if status == _TOO_MANY:
        return ErrorClass.HTTP_429
    if status == _GONE:
        return ErrorClass.HTTP_410
    by_hundred = {3: ErrorClass.HTTP_3XX, 4: ErrorClass.HTTP_4XX, 5: ErrorClass.HTTP_5XX}
    return by_hundred.get(status // 100, ErrorClass.PROTOCOL)


def with_jitter(delay_ms: int, jitter: float) -> int:
    """`delay_ms` and a little more; `jitter` is a number from [0, 1]."""
    return delay_ms + int(min(delay_ms * JITTER_SHARE, JITTER_CAP_MS) * jitter)
