"""What the compute service counts."""

from typing import Final

from prometheus_client import Counter, Gauge, Histogram

__all__ = [
    "CANCELLATIONS",
    "COMPUTE_SECONDS",
    "DEAD_LETTERS",
    "IN_WORK",
    "OUTCOMES",
    "QUEUE_SECONDS",
    "REPEATS",
    "REPLIES",
    "SECOND_ATTEMPTS",
    "STARTED_EVENTS_LOST",
    "WAITING",
]

IN_WORK: Final = Gauge("consuma_requests_running", "Requests that run in a slot.")
WAITING: Final = Gauge("consuma_requests_waiting", "Requests that wait for a slot.")
QUEUE_SECONDS: Final = Histogram(
    "consuma_queue_seconds",
    "Wait for a slot.",
    ["mode"],
    buckets=(0.0005, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100, 300),
)
COMPUTE_SECONDS: Final = Histogram(
    "consuma_compute_seconds",
    "Time in the slot.",
    ["operation"],
    buckets=(0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100, 300),
)
OUTCOMES: Final = Counter("consuma_outcomes", "Outcomes, by mode and failure code.", ["mode", "code"])
SECOND_ATTEMPTS: Final = Counter("consuma_second_attempts", "Requests run again after a crash of their slot.")
REPEATS: Final = Counter("consuma_repeats", "Requests that were not computed since their outcome was known.")
DEAD_LETTERS: Final = Counter("consuma_request_dead_letters", "Records set aside, by reason.", ["reason"])
REPLIES: Final = Counter(
    "consuma_replies",
    "Answers to submitters that wait, by what became of them.",
    ["outcome"],
)
CANCELLATIONS: Final = Counter(
    "consuma_cancellations", "Cancellations heard, by what they met in this process.", ["met"]
)
STARTED_EVENTS_LOST: Final = Counter(
    "consuma_started_events_lost", "Announcements of long runs that the log did not take."
)
