"""Deliveries that cannot be attempted now: put off without an attempt, never lost, and not for ever."""

import asyncio

import pytest

from services.callback.delay_queue import wall_clock_ms
from services.callback.ports import DeferralReason, Deferred, Dispatched, WaitsFor
from services.callback.settings import CallbackSettings
from shared.domain.callbacks import (
    CallbackDelivered,
    Delivery,
    DeliveryDeadLettered,
)
from shared.domain.retry_policy import GiveUpReason
from shared.kafka.producer import SupervisedProducer
from shared.kafka.records import OutgoingRecord, Position
from shared.kafka.topics import Topic
from tests.integration.callback.support import (
    ScriptedDispatcher,
    append,
    events_of,
    facts_of_request,
    has_letters,
    outcome,
    running,
    taken,
    until,
)
from tests.support.requests import facts, request_id

pytestmark = pytest.mark.kafka


async def test_a_full_queue_defers_without_an_attempt_and_the_partition_goes_on(
    settings: CallbackSettings,
) -> None:
    """500 deliveries for a busy destination lie before a healthy one's on every partition."""
    healed = asyncio.Event()
    busy, healthy = "http://127.0.0.1:9/busy", "http://127.0.0.1:9/healthy"

    def answer(delivery: Delivery, _: int) -> Dispatched:
        if delivery.url == busy and not healed.is_set():
            return Deferred(
                reason=DeferralReason.QUEUE_FULL, waits_for=WaitsFor("http://127.0.0.1:9", "busy")
            )
        return taken()

    dispatcher = ScriptedDispatcher(answer)
    narrow = settings.model_copy(update={"callback_window": 50})
    await append(narrow, Topic.RESULTS, [outcome(number, busy) for number in range(500)])
    await append(narrow, Topic.RESULTS, [outcome(number, healthy) for number in range(500, 520)])
    async with running(narrow, dispatcher):
        await until(lambda: all(dispatcher.count(number) == 1 for number in range(500, 520)))
        await until(lambda: any(dispatcher.count(number) >= 3 for number in range(500)))
        patient = next(number for number in range(500) if dispatcher.count(number) >= 3)
        assert await facts_of_request(narrow, patient) == []
        healed_ms = wall_clock_ms()
        healed.set()
        dispatcher.recover()
        await until(lambda: _delivered(narrow, 520))
    deferred = [delivery for _, delivery in dispatcher.calls[request_id(patient)]]
    assert [each.attempt for each in deferred] == [1] * len(deferred)
    assert [each.deferrals for each in deferred] == list(range(len(deferred)))
    for at_ms, delivery in dispatcher.calls[request_id(patient)]:
        assert at_ms >= min(delivery.not_before_ms, healed_ms)
    assert len(await facts_of_request(narrow, patient)) == 1


async def _delivered(settings: CallbackSettings, count: int) -> bool:
    found = await events_of(settings, Topic.CALLBACKS)
    return len(found) == count and all(isinstance(each[-1], CallbackDelivered) for each in found.values())


async def test_a_delivery_put_off_is_made_although_it_is_read_before_its_append_is_acknowledged(
    settings: CallbackSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The acknowledgement takes longer than the shortest tier: the delivery comes back before it."""
    append_at_once = SupervisedProducer.append

    async def acknowledged_late(self: SupervisedProducer, record: OutgoingRecord) -> Position:
        position = await append_at_once(self, record)
        if record.topic is Topic.CALLBACKS_RETRY_1S:
            await asyncio.sleep(3)
        return position

    monkeypatch.setattr(SupervisedProducer, "append", acknowledged_late)
    busy = Deferred(reason=DeferralReason.QUEUE_FULL)
    dispatcher = ScriptedDispatcher(lambda _, call: busy if call == 1 else taken())
    await append(settings, Topic.RESULTS, [outcome(number) for number in range(20)])
    async with running(settings, dispatcher):
        await until(lambda: _delivered(settings, 20))
    assert [dispatcher.count(number) for number in range(20)] == [2] * 20


async def test_a_deferral_has_an_end(settings: CallbackSettings) -> None:
    impatient = settings.model_copy(update={"deferral_limit_ms": 900})
    dispatcher = ScriptedDispatcher(lambda _, __: Deferred(reason=DeferralReason.BREAKER_OPEN))
    async with running(impatient, dispatcher):
        await append(impatient, Topic.RESULTS, [outcome(1)])
        await until(lambda: has_letters(impatient, 1))
    (letter,) = (await events_of(impatient, Topic.CALLBACKS_DLQ))[facts(1)["request_id"]]
    assert isinstance(letter, DeliveryDeadLettered)
    assert letter.reason is GiveUpReason.UNAVAILABLE
    assert "breaker_open" in letter.message
    assert letter.delivery.attempt == 1
