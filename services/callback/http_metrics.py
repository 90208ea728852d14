"""What the HTTP side of the callback service counts. No label names what submitters choose."""

from typing import Final

from prometheus_client import Counter, Gauge

__all__ = ["BREAKERS", "CALLS", "DISABLED", "LANES", "OPENINGS", "QUEUED"]

CALLS: Final = Gauge("consuma_callback_calls", "Calls under way.")
QUEUED: Final = Gauge("consuma_callback_queued", "Deliveries that wait for a call to their origin.")
LANES: Final = Gauge("consuma_callback_origins", "Origins whose limits and pace are remembered.")
BREAKERS: Final = Gauge(
    "consuma_callback_breakers", "Breakers that are open or have counted failures, by level.", ["level"]
)
OPENINGS: Final = Counter("consuma_callback_breaker_openings", "Breakers opened, by level.", ["level"])
DISABLED: Final = Counter("consuma_callback_disabled", "Destinations that receivers have disabled.")
