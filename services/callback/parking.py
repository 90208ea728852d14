"""Deferred deliveries that wait in memory: their times are only a guess of when their destination is well.

Where so many wait for one that they come back rarely, they would otherwise come long after its return.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from services.callback import http_metrics
from services.callback.ports import WaitsFor

__all__ = ["Parking"]

EXAMINED: Final = 16
"""Destinations of an origin that are looked at for one that is well: others of them may be down."""

Wake = Callable[[], None]


class Parking:
    """Those who wait, by origin and destination; destinations of an origin take turns."""

    def __init__(self) -> None:
        self._origins: dict[str, OrderedDict[WaitsFor, OrderedDict[object, Wake]]] = {}

    def has_any(self, origin: str) -> bool:
        """Whether anybody waits for `origin`."""
        return origin in self._origins

    def __contains__(self, waits_for: WaitsFor) -> bool:
        """Whether anybody waits for that destination."""
        return waits_for in self._origins.get(waits_for.origin, ())

    @contextmanager
    def parked(self, waits_for: WaitsFor, wake: Wake) -> Iterator[None]:
        """Be woken at most once, while entered."""
        ticket = object()
        destinations = self._origins.setdefault(waits_for.origin, OrderedDict())
        destinations.setdefault(waits_for, OrderedDict())[ticket] = wake
        http_metrics.PARKED.inc()
        try:
            yield
        finally:
            http_metrics.PARKED.dec()
            self._remove(waits_for, ticket)

    def wake(self, origin: str, takes: Callable[[WaitsFor], bool]) -> bool:
        """Wake the one that has waited longest for a destination of `origin` which `takes` it."""
        destinations = self._origins.get(origin, OrderedDict())
        for _ in range(min(EXAMINED, len(destinations))):
            destination = next(iter(destinations))
            destinations.move_to_end(destination)
            if takes(destination):
                self.wake_one(destination)
                return True
        return False

    def wake_one(self, waits_for: WaitsFor) -> None:
        """Wake the one that has waited longest for that destination."""
        ticket, wake = next(iter(self._origins[waits_for.origin][waits_for].items()))
        self._remove(waits_for, ticket)
        wake()

    def _remove(self, waits_for: WaitsFor, ticket: object) -> None:
        destinations = self._origins.get(waits_for.origin, OrderedDict())
        tickets = destinations.get(waits_for, OrderedDict())
        tickets.pop(ticket, None)
        if not tickets:
            destinations.pop(waits_for, None)
        if not destinations:
            self._origins.pop(waits_for.origin, None)
