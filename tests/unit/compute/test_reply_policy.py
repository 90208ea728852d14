"""Into which topics an answer may go."""

import pytest

from services.compute.replies import ReplyPolicy
from services.compute.settings import ComputeSettings
from shared.events.submission import ReplyTo

PREFIX = "consuma."


def allowed(topic: str, partition: int | None = None, reply_topics: str = "replies.") -> bool:
    policy = ReplyPolicy.of(ComputeSettings(topic_prefix=PREFIX, reply_topics=reply_topics))
    return policy.allows(ReplyTo(topic=topic, correlation_id=b"", partition=partition))


@pytest.mark.parametrize(
    ("topic", "partition", "expected"),
    [
        ("consuma.replies.shop", None, True),
        ("consuma.replies.shop", 3, True),
        ("consuma.replies", 0, True),
        ("consuma.replies", None, False),
        ("consuma.repliesshop", None, False),
        ("replies.shop", None, False),
        ("consuma.requests", 0, False),
        ("consuma.callbacks", None, False),
        ("__consumer_offsets", 0, False),
        ("consuma.replies./../x", None, False),
        ("consuma.replies." + "x" * 250, None, False),
    ],
)
def test_by_default_only_reply_topics_of_the_prefix(
    topic: str, partition: int | None, expected: bool
) -> None:
    assert allowed(topic, partition) is expected


@pytest.mark.parametrize("topic", ["consuma.requests", "consuma.results", "consuma.callbacks.retry.1s"])
def test_no_setting_opens_a_topic_of_our_own(topic: str) -> None:
    assert not allowed(topic, reply_topics="")
    assert allowed("consuma.shop", reply_topics="")
