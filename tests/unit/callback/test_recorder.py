"""What came of a delivery is written in the end, whatever the log says at first."""

import asyncio

import pytest

from services.callback import recorder
from services.callback.recorder import Recorder
from shared.domain.callbacks import CallbackDelivered
from shared.kafka.producer import RecordTooLarge, SendRefused, SupervisedProducer
from shared.kafka.records import OutgoingRecord, Position
from shared.settings import KafkaSettings
from tests.support.requests import facts

FACT = CallbackDelivered(**facts(1), url="http://a.test/", attempt=1, status=200, at_ms=1, duration_ms=1.0)


class Refusing(SupervisedProducer):
    """Refuses so many times before it takes a record."""

    def __init__(self, *refusals: SendRefused) -> None:
        super().__init__(KafkaSettings())
        self.refusals = list(refusals)
        self.taken: list[OutgoingRecord] = []

    async def append(self, record: OutgoingRecord) -> Position:
        if self.refusals:
            raise self.refusals.pop()
        self.taken.append(record)
        return Position("t", 0, len(self.taken), 0)


async def test_a_fact_that_the_log_refuses_is_tried_again_rather_than_its_receiver_called_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(recorder, "LONGEST_WAIT_S", 0.01)
    producer = Refusing(SendRefused("not allowed"), RecordTooLarge("too large"))
    async with asyncio.timeout(5):
        await Recorder(producer).state(FACT, None)
    assert len(producer.taken) == 1
