"""What the HTTP side of the callback service counts. No label names what submitters choose."""

from typing import Final

from prometheus_client import Counter, Gauge, Histogram

__all__ = [
    "BREAKERS",
    "CALLS",
    "DISABLED",
    "LANES",
    "LOOP_LATE_SECONDS",
    "OPENINGS",
    "PARKED",
    "QUEUED",
    "QUEUE_SECONDS",
]

CALLS: Final = Gauge("consuma_callback_calls", "Calls under way.")
QUEUED: Final = Gauge("consuma_callback_queued", "Deliveries that wait for a call to their origin.")
QUEUE_SECONDS: Final = Histogram(
    "consuma_callback_queue_seconds",
    "How long deliveries that had to wait for a call waited.",
    buckets=(0.01, 0.1, 0.5, 1, 2, 5, 10, 20, 40),
)
PARKED: Final = Gauge(
    "consuma_callback_parked", "Deferred deliveries in memory that go once their destination takes them."
)
LANES: Final = Gauge("consuma_callback_origins", "Origins whose limits and pace are remembered.")
LOOP_LATE_SECONDS: Final = Gauge(
    "consuma_callback_loop_late_seconds", "How late the event loop is on average."
)
BREAKERS: Final = Gauge(
    "consuma_callback_breakers", "Breakers that are open or have counted failures, by level.", ["level"]
)
OPENINGS: Final = Counter("consuma_callback_breaker_openings", "Breakers opened, by level.", ["level"])
DISABLED: Final = Counter("consuma_callback_disabled", "Destinations that receivers have disabled.")
