"""The one table of topics: names, sizes, retention, and which groups read them.

Producers, consumers and `consuma topics apply` are configured from it, so that sizes nest (an HTTP body
fits a request, a request and its result fit a dead letter) and no reader starts without a position.
"""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from shared.settings import KafkaSettings

__all__ = ["RETRY_TIERS", "TIER_DELAY_MS", "Topic", "TopicSpec", "topic_name", "topic_table"]

KIB: Final = 1024
MIB: Final = 1024 * KIB
DAY_MS: Final = 24 * 3600 * 1000


class Topic(StrEnum):
    """Every topic of consuma, without the prefix."""

    REQUESTS = "requests"
    REQUESTS_SYNC = "requests.sync"
    REQUESTS_CANCELLED = "requests.cancelled"
    REQUESTS_DLQ = "requests.dlq"
    RESULTS = "results"
    REPLIES = "replies"
    CALLBACKS = "callbacks"
    CALLBACKS_RETRY_1S = "callbacks.retry.1s"
    CALLBACKS_RETRY_5S = "callbacks.retry.5s"
    CALLBACKS_RETRY_30S = "callbacks.retry.30s"
    CALLBACKS_RETRY_2M = "callbacks.retry.2m"
    CALLBACKS_RETRY_10M = "callbacks.retry.10m"
    CALLBACKS_RETRY_1H = "callbacks.retry.1h"
    CALLBACKS_DLQ = "callbacks.dlq"
    DESTINATIONS = "destinations"
    METRICS = "metrics"


TIER_DELAY_MS: Final[dict[Topic, int]] = {
    Topic.CALLBACKS_RETRY_1S: 1_000,
    Topic.CALLBACKS_RETRY_5S: 5_000,
    Topic.CALLBACKS_RETRY_30S: 30_000,
    Topic.CALLBACKS_RETRY_2M: 120_000,
    Topic.CALLBACKS_RETRY_10M: 600_000,
    Topic.CALLBACKS_RETRY_1H: 3_600_000,
}
RETRY_TIERS: Final[tuple[Topic, ...]] = tuple(TIER_DELAY_MS)

REQUEST_BYTES: Final = MIB + 256 * KIB
RESULT_BYTES: Final = 4 * MIB
LETTER_BYTES: Final = 5 * MIB
SMALL_BYTES: Final = MIB
REPLIES_RETENTION_MS: Final = 10 * 60 * 1000
METRICS_RETENTION_MS: Final = DAY_MS
OUTAGE_MS: Final = 7 * DAY_MS
"""Longest outage of the callback service that a waiting retry survives."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicSpec:
    """One topic as it is to exist on the broker.

    `keyed` topics share the partition count of the requests, since a request's records must meet in one
    partition number. `groups` are the consumer groups whose initial offsets are committed with the topic.
    """

    topic: Topic
    max_bytes: int
    retention_ms: int
    keyed: bool = True
    groups: tuple[str, ...] = ()
    config: dict[str, str] = field(default_factory=dict)


def topic_name(settings: KafkaSettings, topic: Topic) -> str:
    """Full name of `topic` under the configured prefix."""
    return f"{settings.topic_prefix}{topic}"


def topic_table(settings: KafkaSettings) -> tuple[TopicSpec, ...]:
    """Every topic, in the order in which they are created."""
    kept = settings.retention_ms
    return (
        _requests(Topic.REQUESTS, kept),
        _requests(Topic.REQUESTS_SYNC, kept),
        TopicSpec(topic=Topic.REQUESTS_CANCELLED, max_bytes=SMALL_BYTES, retention_ms=kept, keyed=False),
        TopicSpec(topic=Topic.REQUESTS_DLQ, max_bytes=LETTER_BYTES, retention_ms=kept),
        TopicSpec(topic=Topic.RESULTS, max_bytes=RESULT_BYTES, retention_ms=kept, groups=("callback",)),
        TopicSpec(topic=Topic.REPLIES, max_bytes=RESULT_BYTES, retention_ms=REPLIES_RETENTION_MS),
        TopicSpec(topic=Topic.CALLBACKS, max_bytes=SMALL_BYTES, retention_ms=kept),
        *(_tier(topic, delay_ms) for topic, delay_ms in TIER_DELAY_MS.items()),
        TopicSpec(topic=Topic.CALLBACKS_DLQ, max_bytes=LETTER_BYTES, retention_ms=kept),
        TopicSpec(
            topic=Topic.DESTINATIONS,
            max_bytes=SMALL_BYTES,
            retention_ms=-1,
            keyed=False,
            config={"cleanup.policy": "compact"},
        ),
        TopicSpec(topic=Topic.METRICS, max_bytes=SMALL_BYTES, retention_ms=METRICS_RETENTION_MS, keyed=False),
    )


def _requests(topic: Topic, retention_ms: int) -> TopicSpec:
    """Uncompressed, so that the size limit holds for what consumers inflate; time is the broker's."""
    return TopicSpec(
        topic=topic,
        max_bytes=REQUEST_BYTES,
        retention_ms=retention_ms,
        groups=("compute",),
        config={"compression.type": "uncompressed", "message.timestamp.type": "LogAppendTime"},
    )


def _tier(topic: Topic, delay_ms: int) -> TopicSpec:
    return TopicSpec(
        topic=topic, max_bytes=LETTER_BYTES, retention_ms=delay_ms + OUTAGE_MS, groups=("callback",)
    )
