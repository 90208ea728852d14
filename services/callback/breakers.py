"""The breakers of all destinations: one for each origin, one for each submitter and URL. Bounded.

They live in memory only, by the monotonic clock: a wall clock that is set changes nothing.
"""

from collections import OrderedDict
from dataclasses import dataclass
from typing import Final, NamedTuple

import structlog

from services.callback import http_metrics
from shared.domain.breaker import (
    CLOSED,
    Admitted,
    Breaker,
    BreakerPolicy,
    Refused,
    Signal,
    admission,
    hold,
    origin_signal,
    settle,
    start_probe,
    url_signal,
)
from shared.domain.callbacks import FailedAttempt, SuccessfulAttempt

__all__ = ["Admission", "Breakers"]

log = structlog.get_logger()

CAPACITY: Final = 10_000
"""Breakers that are not in their first state. Beyond it the one that was touched least recently is forgotten:
its destination is tried again, which costs a few calls."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Admission:
    """Admission of one call, to be settled or given back. The probes are its own alone."""

    origin: str
    destination: str
    origin_probe: bool
    destination_probe: bool


class Refusal(NamedTuple):
    """Which breaker refuses, by its key, and until when."""

    key: str
    until_ms: int


class Breakers:
    """Asks both breakers before a call, and tells both how it ended."""

    def __init__(
        self, policy: BreakerPolicy, *, longest_hold_ms: int = 3_600_000, capacity: int = CAPACITY
    ) -> None:
        self._policy = policy
        self._longest_hold_ms = longest_hold_ms
        self._origins = _Table("origin", capacity)
        self._destinations = _Table("destination", capacity)

    def refusal(self, origin: str, destination: str, now_ms: int) -> Refusal | None:
        """None when a call may be made now, else which breaker refuses it longest."""
        admissions = (
            (origin, admission(self._origins.get(origin), now_ms)),
            (destination, admission(self._destinations.get(destination), now_ms)),
        )
        refusals = [Refusal(key, each.until_ms) for key, each in admissions if isinstance(each, Refused)]
        return max(refusals, key=lambda each: each.until_ms, default=None)

    def are_closed(self, origin: str, destination: str) -> bool:
        """Whether calls go through, and not as a probe only."""
        breakers = (self._origins.get(origin), self._destinations.get(destination))
        return all(each.open_until_ms is None for each in breakers)

    def admit(self, origin: str, destination: str, now_ms: int) -> Admission | None:
        """Leave for one call, or None when one of the breakers refuses."""
        of_origin = admission(self._origins.get(origin), now_ms)
        of_destination = admission(self._destinations.get(destination), now_ms)
        if not isinstance(of_origin, Admitted) or not isinstance(of_destination, Admitted):
            return None
        if of_origin.probe:
            self._origins.put(origin, start_probe(self._origins.get(origin), self._policy, now_ms))
        if of_destination.probe:
            probing = start_probe(self._destinations.get(destination), self._policy, now_ms)
            self._destinations.put(destination, probing)
        return Admission(
            origin=origin,
            destination=destination,
            origin_probe=of_origin.probe,
            destination_probe=of_destination.probe,
        )

    def settle(self, admitted: Admission, attempt: SuccessfulAttempt | FailedAttempt, now_ms: int) -> None:
        """Tell how the call ended. A receiver that asked for time gets it, for this submitter and URL."""
        error_class = attempt.error_class if isinstance(attempt, FailedAttempt) else None
        self._end(admitted, origin_signal(error_class), url_signal(error_class), now_ms)
        asked_ms = attempt.retry_after_ms if isinstance(attempt, FailedAttempt) else None
        held_ms = min(asked_ms or 0, self._longest_hold_ms)
        if held_ms and url_signal(error_class) is Signal.BAD:
            held = hold(self._destinations.get(admitted.destination), now_ms + held_ms)
            self._destinations.put(admitted.destination, held)

    def give_back(self, admitted: Admission, now_ms: int) -> None:
        """No call was made, or nobody knows how it ended."""
        self._end(admitted, Signal.NONE, Signal.NONE, now_ms)

    def _end(self, admitted: Admission, of_origin: Signal, of_destination: Signal, now_ms: int) -> None:
        for table, key, signal, probe in (
            (self._origins, admitted.origin, of_origin, admitted.origin_probe),
            (self._destinations, admitted.destination, of_destination, admitted.destination_probe),
        ):
            before = table.get(key)
            after = settle(before, signal, self._policy, now_ms, probe=probe)
            if after is not before:
                table.put(key, after)
                _tell(table.level, admitted.origin, before, after, now_ms)


class _Table:
    """Breakers by key, least recently touched first; those in their first state take no room."""

    def __init__(self, level: str, capacity: int) -> None:
        self.level = level
        self._capacity = capacity
        self._breakers: OrderedDict[str, Breaker] = OrderedDict()

    def get(self, key: str) -> Breaker:
        return self._breakers.get(key, CLOSED)

    def put(self, key: str, breaker: Breaker) -> None:
        self._breakers.pop(key, None)
        if breaker != CLOSED:
            self._breakers[key] = breaker
        if len(self._breakers) > self._capacity:
            self._breakers.popitem(last=False)
        http_metrics.BREAKERS.labels(self.level).set(len(self._breakers))


def _tell(level: str, origin: str, before: Breaker, after: Breaker, now_ms: int) -> None:
    if after.open_until_ms is not None and after.trips > before.trips:
        log.warning("breaker.opened", level=level, origin=origin, for_ms=after.open_until_ms - now_ms)
        http_metrics.OPENINGS.labels(level).inc()
    if before.open_until_ms is not None and after.open_until_ms is None:
        log.info("breaker.closed", level=level, origin=origin)
