"""What the log's clients count."""

from typing import Final

from prometheus_client import Counter, Gauge

__all__ = [
    "ALARMS",
    "COMMITS",
    "COMMIT_FAILURES",
    "CONSUMER_REBUILDS",
    "HANDLER_RETRIES",
    "IN_FLIGHT",
    "PRODUCER_REBUILDS",
    "SEND_RETRIES",
]

PRODUCER_REBUILDS: Final = Counter("consuma_producer_rebuilds", "Producers replaced, by cause.", ["reason"])
SEND_RETRIES: Final = Counter("consuma_append_retries", "Appends tried again because the log was away.")
IN_FLIGHT: Final = Gauge("consuma_records_in_flight", "Records being handled.", ["topic", "partition"])
HANDLER_RETRIES: Final = Counter(
    "consuma_handler_retries", "Records handled again after an infrastructure fault.", ["topic"]
)
COMMITS: Final = Counter("consuma_offset_commits", "Offset commits that the broker took.")
COMMIT_FAILURES: Final = Counter("consuma_offset_commit_failures", "Offset commits that failed.")
ALARMS: Final = Gauge(
    "consuma_partition_alarm",
    "1 while a partition is stopped because its offset is lost.",
    ["topic", "partition"],
)
CONSUMER_REBUILDS: Final = Counter("consuma_consumer_rebuilds", "Consumers replaced after an error.")
