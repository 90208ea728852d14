"""What the log's clients count."""

from typing import Final

from prometheus_client import Counter, Gauge

from shared.kafka.records import Partition

__all__ = [
    "ALARMS",
    "BLAMED",
    "CLIENTS_REPLACED",
    "COMMITS",
    "COMMIT_FAILURES",
    "HANDLER_RETRIES",
    "IN_FLIGHT",
    "LAG",
    "OLDEST_AGE",
    "PAUSES",
    "POISON",
    "QUARANTINE_RUNS",
    "REBALANCES",
    "SEND_RETRIES",
    "UNACKED_BYTES",
    "forget_partition",
]

CLIENTS_REPLACED: Final = Counter(
    "consuma_client_replaced",
    "Clients of Kafka replaced by new ones, by what they were for and by cause.",
    ["client", "reason"],
)
SEND_RETRIES: Final = Counter(
    "consuma_append_retries", "Appends queued again: not accepted, or their client failed."
)
UNACKED_BYTES: Final = Gauge("consuma_unacked_bytes", "Bytes sent that wait for an acknowledgement.")
IN_FLIGHT: Final = Gauge("consuma_records_in_flight", "Records being handled.", ["topic", "partition"])
LAG: Final = Gauge(
    "consuma_partition_lag",
    "Records between a partition's end and the lowest unfinished one, as last looked.",
    ["topic", "partition"],
)
OLDEST_AGE: Final = Gauge(
    "consuma_oldest_unfinished_seconds",
    "Age of a partition's oldest unfinished record, by the broker's timestamp; 0 when all are finished.",
    ["topic", "partition"],
)
PAUSES: Final = Counter("consuma_window_full", "Times that a partition's window was full.", ["topic"])
HANDLER_RETRIES: Final = Counter(
    "consuma_handler_retries", "Records handled again after an infrastructure fault.", ["topic"]
)
BLAMED: Final = Counter(
    "consuma_blamed_records", "Records that were held when their process died.", ["topic"]
)
QUARANTINE_RUNS: Final = Counter("consuma_quarantine_runs", "Runs of blamed records, one at a time.")
POISON: Final = Counter(
    "consuma_poison_records", "Records ended because each of their runs took the process down.", ["topic"]
)
COMMITS: Final = Counter("consuma_offset_commits", "Offset commits that the broker took.")
COMMIT_FAILURES: Final = Counter("consuma_offset_commit_failures", "Offset commits that failed.")
ALARMS: Final = Gauge(
    "consuma_partition_alarm",
    "1 while a partition is stopped because it cannot be read on.",
    ["topic", "partition"],
)
REBALANCES: Final = Counter("consuma_rebalances", "Assignments received from the group.")


def forget_partition(partition: Partition) -> None:
    """Stop reporting on a partition that belongs to another process now."""
    for gauge in (IN_FLIGHT, LAG, OLDEST_AGE, ALARMS):
        gauge.remove(partition.topic, partition.number)
