"""The service stops, dies, starts again and shares its work; what is settled stays settled."""

import asyncio
import os
import signal
import time
from collections import Counter
from collections.abc import Awaitable

import pytest

from services.callback.delay_queue import wall_clock_ms
from services.callback.origin_queue import UNRECORDED_SHARE
from services.callback.ports import Dispatched
from services.callback.settings import CallbackSettings
from shared.domain.callbacks import CallbackDeadLettered, CallbackDelivered, Delivery
from shared.domain.types import RequestId
from shared.kafka import metrics as kafka_metrics
from shared.kafka.positions import committed_offsets
from shared.kafka.records import Partition
from shared.kafka.topics import RETRY_TIERS, Topic, topic_name
from shared.testing.receiver import Receiver
from tests.integration.callback.support import (
    SECRET,
    ScriptedDispatcher,
    append,
    events_of,
    facts_of_request,
    failed,
    outcome,
    process,
    report,
    running,
    seconds,
    taken,
    until,
)
from tests.support.requests import facts, request_id

MOST_IN_FLIGHT = 8 * UNRECORDED_SHARE
"""Calls to one origin that are under way or answered and not recorded yet."""

pytestmark = [pytest.mark.kafka, pytest.mark.slow]


def _waiting(number: int, *, due_in_ms: int, attempt: int = 2) -> Delivery:
    return Delivery(
        **facts(number),
        url="http://127.0.0.1:9/hook",
        webhook_id=request_id(number),
        body=outcome(number).result,
        origin="x-0-0",
        attempt=attempt,
        not_before_ms=wall_clock_ms() + due_in_ms,
    )


def _retries_by_the_consumer() -> float:
    return sum(
        sample.value
        for metric in kafka_metrics.HANDLER_RETRIES.collect()
        for sample in metric.samples
        if sample.name.endswith("_total")
    )


async def test_a_stop_leaves_what_waits_and_ends_what_is_under_way(settings: CallbackSettings) -> None:
    gate = asyncio.Event()

    async def hold() -> Dispatched:
        await gate.wait()
        return taken()

    dispatcher = ScriptedDispatcher(lambda _, __: hold())
    stop_began = 0.0
    before = _retries_by_the_consumer()
    async with running(settings, dispatcher) as service:
        await append(
            settings, Topic.CALLBACKS_RETRY_1H, [_waiting(n, due_in_ms=3_000_000) for n in range(1_000)]
        )
        await append(settings, Topic.RESULTS, [outcome(5_000)])
        await until(lambda: dispatcher.count(5_000) == 1 and len(service.heap) == 1_000)
        asyncio.get_running_loop().call_later(0.3, gate.set)
        stop_began = time.monotonic()
    stopped_s = time.monotonic() - stop_began
    report(f"stopped with 1,000 waiting after {stopped_s:.2f} s, of which 0.3 s were an attempt")
    assert stopped_s < 3.0
    assert _retries_by_the_consumer() == before
    (fact,) = await facts_of_request(settings, 5_000)
    assert isinstance(fact, CallbackDelivered)
    assert set(dispatcher.calls) == {request_id(5_000)}
    assert await _uncommitted(settings, Topic.CALLBACKS_RETRY_1H) == 1_000


async def _uncommitted(settings: CallbackSettings, topic: Topic) -> int:
    partitions = [Partition(topic_name(settings, topic), number) for number in range(settings.partitions)]
    committed = await committed_offsets(settings, f"{settings.topic_prefix}callback", partitions)
    held = sum([len(each) for each in (await events_of(settings, topic)).values()])
    return held - sum(offset for offset, _ in committed.values())


async def test_what_waits_survives_a_restart_and_is_on_time(settings: CallbackSettings) -> None:
    await append(settings, Topic.CALLBACKS_RETRY_5S, [_waiting(n, due_in_ms=5_000) for n in range(200)])
    async with running(settings, ScriptedDispatcher()) as first:
        await until(lambda: len(first.heap) == 200)
    dispatcher = ScriptedDispatcher()
    async with running(settings, dispatcher):
        await until(lambda: all(dispatcher.count(number) == 1 for number in range(200)))
    late = [
        at_ms - delivery.not_before_ms for calls in dispatcher.calls.values() for at_ms, delivery in calls
    ]
    report(f"after a restart: {min(late)} to {max(late)} ms late")
    assert min(late) >= 0
    assert max(late) < 2_000


async def test_a_new_owner_knows_what_is_settled(settings: CallbackSettings) -> None:
    """The group's positions go back to the start; every record comes again, and nobody is called."""
    dispatcher = ScriptedDispatcher(lambda d, _: failed() if d.request_id == request_id(0) else taken())
    never = settings.model_copy(update={"retry_schedule": ""})
    async with running(never, dispatcher):
        await append(settings, Topic.RESULTS, [outcome(number) for number in range(100)])
        await until(lambda: _ended(settings, 100))
    again = ScriptedDispatcher()
    await append(settings, Topic.RESULTS, [outcome(number) for number in range(120)])
    stale = [_waiting(number, due_in_ms=0, attempt=1) for number in range(100)]
    await append(settings, Topic.CALLBACKS_RETRY_1S, stale)
    async with running(settings, again):
        await until(lambda: all(again.count(number) == 1 for number in range(100, 120)))
        await until(lambda: _all_finished(settings))
    assert sorted(again.calls) == sorted(request_id(number) for number in range(100, 120))


async def _ended(settings: CallbackSettings, count: int) -> bool:
    return len(await _ends(settings)) == count


async def _ends(settings: CallbackSettings) -> Counter[RequestId]:
    """How many ends the callback of each request has in the log."""
    found = await events_of(settings, Topic.CALLBACKS)
    kinds = (CallbackDelivered, CallbackDeadLettered)
    return Counter(key for key, told in found.items() for each in told if isinstance(each, kinds))


async def _all_finished(settings: CallbackSettings) -> bool:
    """Whether the group has committed everything, in every topic that it reads."""
    for topic in (Topic.RESULTS, *RETRY_TIERS):
        if await _uncommitted(settings, topic):
            return False
    return True


async def test_a_second_member_takes_half_and_nothing_is_called_twice(settings: CallbackSettings) -> None:
    """Partitions move while attempts are under way, retries wait and outcomes come."""

    async def slowly(delivery: Delivery, nth: int) -> Dispatched:
        await asyncio.sleep(0.005)
        return failed() if nth == 1 and int(delivery.request_id[-1], 16) % 4 == 0 else taken()

    def answer(delivery: Delivery, nth: int) -> Awaitable[Dispatched]:
        return slowly(delivery, nth)

    one, two = ScriptedDispatcher(answer), ScriptedDispatcher(answer)
    two.calls = one.calls
    other = settings.model_copy(update={"instance": "callback-1"})
    async with running(settings, one) as first:
        await append(settings, Topic.RESULTS, [outcome(number) for number in range(500)])
        async with running(other, two) as second:
            await append(settings, Topic.RESULTS, [outcome(number) for number in range(500, 1_000)])
            await until(lambda: all(second.readiness().values()) and all(first.readiness().values()))
            await append(settings, Topic.RESULTS, [outcome(number) for number in range(1_000, 1_500)])
            await until(lambda: _ended(settings, 1_500))
    assert set((await _ends(settings)).values()) == {1}
    attempts = Counter((key, delivery.attempt) for key, calls in one.calls.items() for _, delivery in calls)
    repeated = sum(count - 1 for count in attempts.values())
    report(f"1,500 callbacks over a rebalance: {repeated} attempts repeated")
    assert repeated <= 20, "more was repeated than was under way"


@pytest.mark.parametrize("kill_after", [40, 150, 400])
async def test_a_killed_service_loses_nothing(settings: CallbackSettings, kill_after: int) -> None:
    """Every tenth delivery fails once, so that kills fall between all steps; what is in flight doubles."""
    total = 600

    async with Receiver(secrets=[SECRET]) as receiver:
        urls = [
            receiver.url("/hook") if number % 10 else receiver.url(f"/{number}", status=503, first=1)
            for number in range(total)
        ]
        await append(settings, Topic.RESULTS, [outcome(number, urls[number]) for number in range(total)])
        async with process(settings) as victim:
            await until(lambda: len(receiver.calls) >= kill_after)
            os.kill(victim.pid, signal.SIGKILL)
            await victim.wait()
        async with process(settings) as heir:
            await until(lambda: len(receiver.accepted) == total, 150.0)  # some wait in the tiers
            await until(lambda: _ended(settings, total))
            await until(lambda: _all_finished(settings))
            heir.terminate()
            assert await heir.wait() == 0
        duplicates = sum(times - 1 for times in receiver.accepted.values())
        report(f"killed after {kill_after} of {total}: {duplicates} received twice")
        assert all(call.signed for call in receiver.calls)
    assert len(await _ends(settings)) == total
    assert duplicates <= MOST_IN_FLIGHT


async def test_a_service_that_hangs_and_wakes_changes_nothing(settings: CallbackSettings) -> None:
    """A zombie's facts come late; its partitions are another's by then."""
    total = 300
    other = settings.model_copy(update={"instance": "callback-1"})
    async with Receiver(secrets=[SECRET]) as receiver:
        await append(settings, Topic.RESULTS, [outcome(n, receiver.url("/hook")) for n in range(total)])
        async with process(settings) as sleeper:
            await until(lambda: len(receiver.calls) >= 50)
            os.kill(sleeper.pid, signal.SIGSTOP)
            try:
                async with process(other):
                    await until(lambda: len(receiver.accepted) == total)
            finally:
                os.kill(sleeper.pid, signal.SIGCONT)
            await append(
                settings, Topic.RESULTS, [outcome(n, receiver.url("/hook")) for n in range(total, 350)]
            )
            await until(lambda: len(receiver.accepted) == 350)
        duplicates = sum(times - 1 for times in receiver.accepted.values())
        report(f"stopped and continued: {duplicates} received twice")
        assert duplicates <= MOST_IN_FLIGHT


async def test_a_service_without_a_broker_waits_and_can_be_stopped(settings: CallbackSettings) -> None:
    away = settings.model_copy(update={"kafka": "127.0.0.1:1"})
    async with process(away) as child:
        child.terminate()
        assert await child.wait() in {0, -signal.SIGTERM}, "neither drained nor ended before it could"


async def test_reading_back_takes_little(settings: CallbackSettings) -> None:
    dispatcher = ScriptedDispatcher()
    told = [
        CallbackDelivered(
            **facts(number), url="http://127.0.0.1:9/hook", attempt=1, status=200, at_ms=1, duration_ms=1.0
        )
        for number in range(20_000)
    ]
    await append(settings, Topic.CALLBACKS, told)
    async with running(settings, dispatcher):
        await append(settings, Topic.RESULTS, [outcome(0), outcome(19_999), outcome(20_000)])
        await until(lambda: dispatcher.count(20_000) == 1)
    assert list(dispatcher.calls) == [request_id(20_000)]
    taken_s = await seconds(_start(settings))
    report(f"started with 20,000 facts to read in {taken_s:.2f} s")


async def _start(settings: CallbackSettings) -> None:
    async with running(settings, ScriptedDispatcher()):
        pass
