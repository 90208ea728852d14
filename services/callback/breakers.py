"""The breakers of all destinations: one for each origin, one for each submitter and URL. Bounded."""

from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

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

__all__ = ["Breakers", "Permit"]

log = structlog.get_logger()

CAPACITY: Final = 10_000
"""Breakers that are not in their first state. Beyond it the one that was touched least recently is forgotten:
its destination is tried again, which costs a few calls."""

LONGEST_HOLD_MS: Final = 3_600_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Permit:
    """Leave for one call, to be settled or given back. The probes are its own alone."""

    origin: str
    destination: str
    origin_probe: bool
    destination_probe: bool


class Breakers:
    """Asks both breakers before a call, and tells both how it ended."""

    def __init__(self, policy: BreakerPolicy, capacity: int = CAPACITY) -> None:
        self._policy = policy
        self._origins = _Table("origin", capacity)
        self._destinations = _Table("destination", capacity)

    def closed_until(self, origin: str, destination: str, now_ms: int) -> int | None:
        """None when a call may be made now, else the time before which asking again is pointless."""
        admissions = (
            admission(self._origins.get(origin), now_ms),
            admission(self._destinations.get(destination), now_ms),
        )
        refusals = [each.until_ms for each in admissions if isinstance(each, Refused)]
        return max(refusals) if refusals else None

    def admit(self, origin: str, destination: str, now_ms: int) -> Permit | None:
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
        return Permit(
            origin=origin,
            destination=destination,
            origin_probe=of_origin.probe,
            destination_probe=of_destination.probe,
        )

    def settle(self, permit: Permit, attempt: SuccessfulAttempt | FailedAttempt) -> None:
        """Tell how the call ended. A receiver that asked for time gets it, for this submitter and URL."""
        error_class = attempt.error_class if isinstance(attempt, FailedAttempt) else None
        self._end(permit, origin_signal(error_class), url_signal(error_class), attempt.at_ms)
        asked_ms = attempt.retry_after_ms if isinstance(attempt, FailedAttempt) else None
        if asked_ms and url_signal(error_class) is Signal.BAD:
            held = hold(
                self._destinations.get(permit.destination),
                attempt.at_ms + min(asked_ms, LONGEST_HOLD_MS),
            )
            self._destinations.put(permit.destination, held)

    def give_back(self, permit: Permit, now_ms: int) -> None:
        """No call was made, or nobody knows how it ended."""
        self._end(permit, Signal.NONE, Signal.NONE, now_ms)

    def _end(self, permit: Permit, of_origin: Signal, of_destination: Signal, now_ms: int) -> None:
        for table, key, signal, probe in (
            (self._origins, permit.origin, of_origin, permit.origin_probe),
            (self._destinations, permit.destination, of_destination, permit.destination_probe),
        ):
            before = table.get(key)
            after = settle(before, signal, self._policy, now_ms, probe=probe)
            if after is not before:
                table.put(key, after)
                _tell(table.level, permit.origin, before, after, now_ms)


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
