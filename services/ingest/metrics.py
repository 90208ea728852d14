"""What the API counts."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Metric, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

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
    directory = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
    if directory is None:
        return generate_latest()
    registry = CollectorRegistry()
    registry.register(_WorkersCollector(Path(directory)))
    return generate_latest(registry)


class _WorkersCollector(Collector):
    """What the workers have left in their files.

    A file is empty from its creation until it is given its size, and stays so when its worker is killed in
    between; the library's collector fails on it, for ever.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def collect(self) -> Iterable[Metric]:
        """The metrics, merged over all workers."""
        written = [str(file) for file in self._directory.glob("*.db") if _size(file) > 0]
        merged: Iterable[Metric] = MultiProcessCollector.merge(written)  # type: ignore[no-untyped-call]
        return merged


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except FileNotFoundError:  # its worker has ended meanwhile
        return 0
