"""From outcomes in the log to facts in the log: once, in order, and never early."""

import asyncio
from base64 import b64decode
from collections.abc import Awaitable
from dataclasses import replace
from itertools import chain

import pytest

from services.callback import metrics
from services.callback.delay_queue import wall_clock_ms
from services.callback.ports import DeferralReason, Deferred, Disabled, Dispatched
from services.callback.settings import CallbackSettings
from shared.domain.callbacks import (
    CallbackAttempted,
    CallbackDeadLettered,
    CallbackDelivered,
    Delivery,
    DeliveryDeadLettered,
)
from shared.domain.requests import RequestDeadLettered, RequestStarted
from shared.domain.retry_policy import ErrorClass, GiveUpReason
from shared.kafka.topics import Topic, topic_name
from tests.integration.callback.support import (
    ScriptedDispatcher,
    append,
    events_of,
    facts_of_request,
    failed,
    has_letters,
    outcome,
    producing,
    running,
    taken,
    until,
)
from tests.support.requests import facts, request_id

pytestmark = pytest.mark.kafka

LATE_MS = 5_000
"""Lateness that a busy machine may cause; the bar is measured elsewhere."""


async def test_an_outcome_is_delivered_once_and_its_fact_recorded(settings: CallbackSettings) -> None:
    dispatcher = ScriptedDispatcher()
    async with running(settings, dispatcher):
        await append(settings, Topic.RESULTS, [outcome(1)])
        await until(lambda: dispatcher.count(1) == 1)
    (fact,) = await facts_of_request(settings, 1)
    assert isinstance(fact, CallbackDelivered)
    assert (fact.attempt, fact.status, fact.request_id) == (1, 200, request_id(1))
    assert dispatcher.count(1) == 1


async def test_nothing_happens_without_a_url_or_an_outcome(settings: CallbackSettings) -> None:
    dispatcher = ScriptedDispatcher()
    started = RequestStarted(**facts(2), attempt=1, started_at_ms=1, worker="w")
    async with running(settings, dispatcher):
        await append(settings, Topic.RESULTS, [outcome(1, url=None), started, outcome(3)])
        await until(lambda: dispatcher.count(3) == 1)
    assert list(dispatcher.calls) == [request_id(3)]


async def test_a_failing_delivery_climbs_the_tiers_on_time_and_ends_in_the_deadhas_letters(
    settings: CallbackSettings,
) -> None:
    slow = settings.model_copy(update={"retry_schedule": "1s,5s"})
    dispatcher = ScriptedDispatcher(lambda _, __: failed())
    async with running(slow, dispatcher):
        await append(slow, Topic.RESULTS, [outcome(1)])
        await until(lambda: dispatcher.count(1) == 3)
        await until(lambda: has_letters(slow, 1))
    calls = dispatcher.calls[request_id(1)]
    assert [delivery.attempt for _, delivery in calls] == [1, 2, 3]
    for at_ms, delivery in calls[1:]:
        assert 0 <= at_ms - delivery.not_before_ms < LATE_MS
    assert calls[1][0] - calls[0][0] >= 1_000
    assert calls[2][0] - calls[1][0] >= 5_000

    told = await facts_of_request(slow, 1)
    assert [type(each) for each in told] == [CallbackAttempted] * 3 + [CallbackDeadLettered]
    retries = [each.retry_at_ms for each in told if isinstance(each, CallbackAttempted)]
    assert retries == [calls[1][1].not_before_ms, calls[2][1].not_before_ms, None]
    (letter,) = (await events_of(slow, Topic.CALLBACKS_DLQ))[facts(1)["request_id"]]
    assert isinstance(letter, DeliveryDeadLettered)
    assert (letter.reason, letter.message) == (GiveUpReason.EXHAUSTED, "answered 500")
    assert [each.attempt for each in letter.delivery.history] == [1, 2, 3]
    assert letter.delivery.first_failed_at_ms == letter.delivery.history[0].at_ms
    assert letter.last_failed_at_ms == letter.delivery.history[2].at_ms
    assert letter.delivery.body == calls[0][1].body
    assert letter.delivery.origin.startswith(topic_name(slow, Topic.RESULTS))


async def test_what_cannot_heal_is_given_up_at_once(settings: CallbackSettings) -> None:
    dispatcher = ScriptedDispatcher(
        lambda _, __: failed(ErrorClass.HTTP_410, status=410, message="answered 410")
    )
    async with running(settings, dispatcher):
        await append(settings, Topic.RESULTS, [outcome(1)])
        await until(lambda: has_letters(settings, 1))
    assert dispatcher.count(1) == 1
    (letter,) = (await events_of(settings, Topic.CALLBACKS_DLQ))[facts(1)["request_id"]]
    assert isinstance(letter, DeliveryDeadLettered)
    assert letter.reason is GiveUpReason.GONE


async def test_a_receiver_can_ask_for_a_later_retry(settings: CallbackSettings) -> None:
    """2.5 s fit no tier: the delivery hops, and no attempt is spent on that."""

    def answer(_: Delivery, nth: int) -> Dispatched:
        return failed(ErrorClass.HTTP_429, retry_after_ms=2_500) if nth == 1 else taken()

    dispatcher = ScriptedDispatcher(answer)
    async with running(settings, dispatcher):
        await append(settings, Topic.RESULTS, [outcome(1)])
        await until(lambda: dispatcher.count(1) == 2)
    (first_ms, _), (second_ms, second) = dispatcher.calls[request_id(1)]
    assert second.attempt == 2
    assert second_ms - first_ms >= 2_500
    assert 0 <= second_ms - second.not_before_ms < LATE_MS
    tiers = (await events_of(settings, Topic.CALLBACKS_RETRY_1S))[facts(1)["request_id"]]
    assert len(tiers) >= 2
    assert all(isinstance(each, Delivery) and each.attempt == 2 for each in tiers)


async def test_a_disabled_destination_gets_a_dead_letter_at_once(settings: CallbackSettings) -> None:
    dispatcher = ScriptedDispatcher(lambda _, __: Disabled(message="disabled since noon"))
    async with running(settings, dispatcher):
        await append(settings, Topic.RESULTS, [outcome(1)])
        await until(lambda: has_letters(settings, 1))
    (fact,) = await facts_of_request(settings, 1)
    assert isinstance(fact, CallbackDeadLettered)
    assert (fact.reason, fact.attempts) == (GiveUpReason.DISABLED, 0)


async def test_repeated_outcomes_are_called_back_once(settings: CallbackSettings) -> None:
    """While the call is under way, when it has failed, when it is put off, and when it is done."""
    gate = asyncio.Event()

    async def hold() -> Dispatched:
        await gate.wait()
        return taken()

    def answer(delivery: Delivery, nth: int) -> Dispatched | Awaitable[Dispatched]:
        if delivery.request_id == request_id(1):
            return hold()
        if delivery.request_id == request_id(2):
            return failed() if nth == 1 else taken()
        if delivery.request_id == request_id(3):
            return Deferred(reason=DeferralReason.RATE_LIMITED) if nth == 1 else taken()
        return taken()

    dispatcher = ScriptedDispatcher(answer)
    many = [outcome(number) for _ in range(20) for number in (1, 2, 3, 4)]
    async with running(settings, dispatcher):
        await append(settings, Topic.RESULTS, many)
        await append(settings, Topic.RESULTS, [outcome(number) for number in range(10, 30)])
        await until(lambda: all(dispatcher.count(number) == 1 for number in range(10, 30)))
        gate.set()
        await until(lambda: dispatcher.count(2) == dispatcher.count(3) == 2)
        await append(settings, Topic.RESULTS, [*many, outcome(30), outcome(31), outcome(32), outcome(33)])
        await until(lambda: all(dispatcher.count(number) == 1 for number in range(30, 34)))
    assert [dispatcher.count(number) for number in (1, 2, 3, 4)] == [1, 2, 2, 1]
    assert [len(await facts_of_request(settings, number)) for number in (1, 2, 3, 4)] == [1, 2, 1, 1]


async def test_a_second_copy_of_a_retry_is_stale(settings: CallbackSettings) -> None:
    """As a crash between the tier's append and the fact leaves it."""
    dispatcher = ScriptedDispatcher(lambda _, nth: failed() if nth == 1 else taken())
    async with running(settings, dispatcher):
        await append(settings, Topic.RESULTS, [outcome(1)])
        await until(lambda: dispatcher.count(1) == 1)
        await until(lambda: _tier_holds(settings, 1))
        (retry,) = (await events_of(settings, Topic.CALLBACKS_RETRY_1S))[facts(1)["request_id"]]
        assert isinstance(retry, Delivery)
        copies = [retry, replace(retry, not_before_ms=retry.not_before_ms + 300)]
        await append(settings, Topic.CALLBACKS_RETRY_1S, copies)
        await append(settings, Topic.CALLBACKS_RETRY_1S, [_later(retry, 2), _later(retry, 3)])
        await until(lambda: dispatcher.count(2) == dispatcher.count(3) == 1)
    assert dispatcher.count(1) == 2


async def _tier_holds(settings: CallbackSettings, number: int) -> bool:
    return facts(number)["request_id"] in await events_of(settings, Topic.CALLBACKS_RETRY_1S)


def _later(delivery: Delivery, number: int) -> Delivery:
    return replace(
        delivery, request_id=facts(number)["request_id"], not_before_ms=delivery.not_before_ms + 500
    )


async def test_records_that_cannot_be_read_stop_nothing_and_are_counted(settings: CallbackSettings) -> None:
    name = topic_name(settings, Topic.RESULTS)
    before = metrics.UNREADABLE.labels(name)._value.get()
    dispatcher = ScriptedDispatcher()
    async with producing(settings) as producer:
        for value in (b"", b"junk", None):
            for partition in range(settings.partitions):
                await producer.send_and_wait(name, value=value, key=b"k", partition=partition)
    await append(settings, Topic.RESULTS, [outcome(number) for number in range(10)])
    async with running(settings, dispatcher):
        await until(lambda: all(dispatcher.count(number) == 1 for number in range(10)))
    assert metrics.UNREADABLE.labels(name)._value.get() - before == 3 * settings.partitions


async def test_a_callback_of_a_newer_release_becomes_a_letter(
    settings: CallbackSettings,
) -> None:
    """Of an outcome and of a retry: both were read once by the release that wrote them."""
    newer = {
        Topic.RESULTS: b'{"newer": "outcome", "padding": "' + b"x" * 3_000_000 + b'"}',
        Topic.CALLBACKS_RETRY_1S: b'{"newer": "retry"}',
    }
    headers = [
        ("ce_type", b"consuma.request.succeeded.v9"),
        ("ce_mode", b"async"),
        ("ce_specversion", b"1.0"),
    ]
    async with producing(settings) as producer:
        for topic, value in newer.items():
            await producer.send_and_wait(topic_name(settings, topic), value=value, key=b"k", headers=headers)
    async with running(settings, ScriptedDispatcher()):
        await until(lambda: _letters_hold(settings, list(newer.values())))


async def _letters_hold(settings: CallbackSettings, values: list[bytes]) -> bool:
    letters = chain(*(await events_of(settings, Topic.REQUESTS_DLQ)).values())
    found = {
        b64decode(letter.value_base64 or "")
        for letter in letters
        if isinstance(letter, RequestDeadLettered) and letter.reason == "unreadable"
    }
    return found >= set(values)


async def test_a_long_wait_does_not_hold_up_a_short_one(settings: CallbackSettings) -> None:
    def answer(delivery: Delivery, nth: int) -> Dispatched:
        if nth > 1:
            return taken()
        number = int(delivery.url.rpartition("/")[2])
        return failed(retry_after_ms=600_000) if number % 2 else failed()

    dispatcher = ScriptedDispatcher(answer)
    async with running(settings, dispatcher):
        outcomes = [outcome(number, f"http://127.0.0.1:9/{number}") for number in range(400)]
        await append(settings, Topic.RESULTS, outcomes)
        await until(lambda: all(dispatcher.count(number) == 2 for number in range(0, 400, 2)))
        assert all(dispatcher.count(number) == 1 for number in range(1, 400, 2))
    late = [
        at_ms - delivery.not_before_ms
        for number in range(0, 400, 2)
        for at_ms, delivery in dispatcher.calls[request_id(number)][1:]
    ]
    assert min(late) >= 0
    assert max(late) < LATE_MS


async def test_what_is_due_is_not_waited_for(settings: CallbackSettings) -> None:
    """After an outage the tiers are full of what should have gone long ago."""
    dispatcher = ScriptedDispatcher()
    delivery = Delivery(
        **facts(1),
        url="http://127.0.0.1:9/hook",
        webhook_id=request_id(1),
        body=outcome(1).result,
        origin="x-0-0",
        attempt=3,
        not_before_ms=wall_clock_ms() - 10_000,
    )
    await append(settings, Topic.CALLBACKS_RETRY_1H, [delivery])
    async with asyncio.timeout(30), running(settings, dispatcher):
        await until(lambda: dispatcher.count(1) == 1)
