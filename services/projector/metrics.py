"""What the projector counts."""

from typing import Final

from prometheus_client import Counter, Gauge, Histogram

__all__ = [
    "ALARM",
    "ANOMALIES",
    "BATCH_RECORDS",
    "BATCH_SECONDS",
    "GAPS",
    "LAG",
    "LEADING",
    "SESSIONS_LOST",
    "SKIPPED",
]

LAG: Final = Gauge(
    "consuma_projector_lag_records",
    "Offsets between the projection and the log's end.",
    ["topic", "partition"],
)
ALARM: Final = Gauge(
    "consuma_projector_alarm",
    "1 while a partition is stopped because its position cannot be trusted, or its bytes be read.",
    ["topic", "partition"],
)
LEADING: Final = Gauge("consuma_projector_leading", "1 while this process projects, 0 while it stands by.")
BATCH_RECORDS: Final = Histogram(
    "consuma_projector_batch_records",
    "Records per transaction.",
    buckets=(1, 3, 10, 30, 100, 300, 1_000, 3_000, 10_000),
)
BATCH_SECONDS: Final = Histogram(
    "consuma_projector_batch_seconds",
    "Time of one batch from fetched to committed.",
    buckets=(0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30),
)
ANOMALIES: Final = Counter(
    "consuma_projector_anomalies", "Records of our own topics that could not be read.", ["topic"]
)
SKIPPED: Final = Counter("consuma_projector_skipped", "Records of request topics that are no requests.")
GAPS: Final = Counter(
    "consuma_projector_gaps", "Offsets missing in a topic that only our plain producers write.", ["topic"]
)
SESSIONS_LOST: Final = Counter(
    "consuma_projector_sessions_lost",
    "Times the projector had to start again from the stored positions.",
    ["cause"],
)
