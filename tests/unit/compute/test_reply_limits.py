"""Replies to topics of others cost callers of the API none of theirs."""

import asyncio
from typing import cast

from services.compute import metrics
from services.compute.replies import Replies
from services.compute.settings import ComputeSettings
from shared.events.codec import EncodedEvent
from shared.events.submission import ReplyTo
from shared.kafka.producer import SupervisedProducer
from shared.kafka.records import OutgoingRecord

SETTINGS = ComputeSettings(topic_prefix="consuma.", replies_in_flight=3)
OUTCOME = EncodedEvent(key=b"k", value=b"v", headers=())
API = ReplyTo(topic="consuma.replies", partition=0, correlation_id=b"c")
SHOP = ReplyTo(topic="consuma.replies.shop", partition=None, correlation_id=b"c")


class Log:
    """A log whose acknowledgements come when they are let go."""

    def __init__(self) -> None:
        self.sent: list[OutgoingRecord] = []
        self.answers = asyncio.Event()

    async def send(self, record: OutgoingRecord, *, timeout_ms: int) -> None:
        self.sent.append(record)
        await self.answers.wait()


def dropped() -> float:
    return float(metrics.REPLIES.labels("dropped")._value.get())


async def test_a_foreign_topic_that_hangs_leaves_the_callers_of_the_api_theirs() -> None:
    own, foreign = Log(), Log()
    replies = Replies(
        SETTINGS, own=cast("SupervisedProducer", own), foreign=cast("SupervisedProducer", foreign)
    )
    before = dropped()
    for _ in range(5):
        replies.send(SHOP, OUTCOME)
    for _ in range(4):
        replies.send(API, OUTCOME)
    own.answers.set()
    await asyncio.sleep(0)
    assert [len(foreign.sent), len(own.sent)] == [3, 3]
    assert dropped() == before + 3
    foreign.answers.set()
    await replies.drain()
    replies.send(SHOP, OUTCOME)
    replies.send(API, OUTCOME)
    await replies.drain()
    assert [len(foreign.sent), len(own.sent)] == [4, 4]
