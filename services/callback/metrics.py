"""What the log's side of the callback service counts."""

from typing import Final

from prometheus_client import Counter, Gauge, Histogram

__all__ = [
    "ATTEMPTS",
    "ATTEMPT_SECONDS",
    "DEFERRED",
    "HOPS",
    "KNOWN",
    "LATENESS_SECONDS",
    "LETTERS",
    "READ_BACK_SECONDS",
    "REFUSED",
    "UNREADABLE",
    "WAITING",
]

_LATENESS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10, 60, 600, 3_600)
_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)

ATTEMPTS: Final = Counter(
    "consuma_callback_attempts", "Attempts by result: `delivered`, or the class of the error.", ["result"]
)
ATTEMPT_SECONDS: Final = Histogram(
    "consuma_callback_attempt_seconds", "Duration of attempts.", ["result"], buckets=_SECONDS
)
LATENESS_SECONDS: Final = Histogram(
    "consuma_callback_lateness_seconds",
    "Time from when a retry was due to when its destination was asked to take it.",
    ["tier"],
    buckets=_LATENESS,
)
WAITING: Final = Gauge(
    "consuma_callback_waiting", "Deliveries in this process's memory that wait for their time.", ["tier"]
)
HOPS: Final = Counter(
    "consuma_callback_hops", "Deliveries that moved on to another tier, due later than theirs.", ["tier"]
)
DEFERRED: Final = Counter(
    "consuma_callback_deferred", "Deliveries put off without an attempt, by reason.", ["reason"]
)
REFUSED: Final = Counter(
    "consuma_callback_repeats",
    "Repeated deliveries that were not made: settled, stale, or under way already.",
    ["reason"],
)
LETTERS: Final = Counter("consuma_callback_dead_letters", "Deliveries given up, by reason.", ["reason"])
UNREADABLE: Final = Counter(
    "consuma_callback_unreadable_records", "Records of our own topics that could not be read.", ["topic"]
)
REFUSED_BY_LOG: Final = Counter(
    "consuma_callback_refused_by_log", "Tries to record that the log refused; they are repeated.", ["topic"]
)
READ_BACK_SECONDS: Final = Histogram(
    "consuma_callback_read_back_seconds",
    "Time to learn at an assignment what is settled in the partition.",
    buckets=_SECONDS,
)
KNOWN: Final = Gauge("consuma_callback_known", "Callbacks whose state this process remembers.")
