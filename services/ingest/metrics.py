"""What the API counts."""

import os
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

__all__ = ["BODY_BYTES", "HTTP_SECONDS", "IN_WORK", "POLLING", "SUBMITTED", "WAITING", "exposition"]

_BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)

HTTP_SECONDS: Final = Histogram(
    "consuma_http_request_seconds",
    "Time from the request's head to the answer's end.",
    ["method", "route", "status"],
    buckets=_BUCKETS,
)
IN_WORK: Final = Gauge("consuma_http_requests", "HTTP requests in work.", multiprocess_mode="livesum")
BODY_BYTES: Final = Gauge(
    "consuma_http_body_bytes", "Bytes of the bodies in work.", multiprocess_mode="livesum"
)
WAITING: Final = Gauge(
    "consuma_sync_waiting", "Sync callers waiting for an outcome.", multiprocess_mode="livesum"
)
POLLING: Final = Gauge(
    "consuma_polling", "Callers of `?wait` who wait for an outcome.", multiprocess_mode="livesum"
)
SUBMITTED: Final = Counter(
    "consuma_submissions", "Submissions by what became of them.", ["mode", "operation", "outcome"]
)


def exposition() -> bytes:
    """All metrics as text; of every worker process where there are several."""
    if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
        return generate_latest()
    registry = CollectorRegistry()
    MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return generate_latest(registry)
