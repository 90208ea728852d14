"""Deliveries to real sockets: signed, limited, put off, disabled; one bad destination delays no other."""

import asyncio
import json
import statistics
import time
from contextlib import AsyncExitStack
from dataclasses import replace

import pytest

from services.callback.dispatcher import HttpDispatcher
from services.callback.ports import DeferralReason, Deferred, Disabled, Dispatched
from shared.domain.callbacks import FailedAttempt, SuccessfulAttempt
from shared.domain.retry_policy import ErrorClass
from shared.testing.receiver import Receiver
from tests.integration.callback_http.support import Log, delivery, dispatch, open_dispatcher, secret
from tests.support.waiting import until


def now_ms() -> int:
    return int(time.time() * 1000)


def put_off(dispatched: Dispatched) -> Deferred:
    assert isinstance(dispatched, Deferred), dispatched
    return dispatched


def error_of(dispatched: Dispatched) -> ErrorClass:
    assert isinstance(dispatched, FailedAttempt), dispatched
    return dispatched.error_class


async def fail(dispatcher: HttpDispatcher, url: str, times: int, *, source: str = "rest") -> None:
    for number in range(times):
        assert isinstance(await dispatch(dispatcher, delivery(url, number, source=source)), FailedAttempt)


@pytest.mark.parametrize("known", ["current", "next"])
async def test_a_delivery_is_signed_with_every_secret_and_arrives_as_it_is(known: str) -> None:
    both = ("current", "next")
    async with Receiver(secrets=[secret(known)]) as receiver, open_dispatcher(secrets=both) as sender:
        sent = delivery(receiver.url())
        attempt = await dispatch(sender, sent)
    assert isinstance(attempt, SuccessfulAttempt)
    assert (attempt.status, abs(attempt.at_ms - now_ms()) < 10_000) == (200, True)
    [call] = receiver.calls
    assert (call.signed, call.webhook_id, call.body_bytes) == (True, sent.webhook_id, len(sent.body))
    headers = {name.lower(): value for name, value in call.headers}
    assert headers["content-type"] == "application/json"
    assert headers["user-agent"].startswith("consuma")
    assert headers["accept-encoding"] == "identity"


async def test_a_foreign_secret_does_not_verify() -> None:
    async with Receiver(secrets=[secret("foreign")]) as receiver, open_dispatcher() as sender:
        await dispatch(sender, delivery(receiver.url()))
    assert [call.signed for call in receiver.calls] == [False]


@pytest.mark.parametrize(
    "url", ["http://user:pw@127.0.0.1/", "ftp://h/", "http://", "http://[::1", "http://h:99999/", "x"]
)
async def test_what_is_no_callback_url_is_forbidden_and_not_called(url: str) -> None:
    async with open_dispatcher() as sender:
        assert error_of(await dispatch(sender, delivery(url))) is ErrorClass.FORBIDDEN


async def test_a_port_outside_the_policy_is_forbidden() -> None:
    async with Receiver() as receiver, open_dispatcher(callback_ports="443,8443") as sender:
        assert error_of(await dispatch(sender, delivery(receiver.url()))) is ErrorClass.FORBIDDEN
    assert not receiver.calls


async def test_an_origin_gets_so_many_calls_and_so_many_wait() -> None:
    async with (
        Receiver() as receiver,
        open_dispatcher(callback_concurrency=4, callback_queue=6, callback_queue_wait_ms=10_000) as sender,
    ):
        url = receiver.url(delay_ms=100)
        ends = await asyncio.gather(*(dispatch(sender, delivery(url, number)) for number in range(15)))
    assert receiver.most_open_calls == 4
    assert receiver.connections == 4
    assert sum(isinstance(end, SuccessfulAttempt) for end in ends) == 10
    away = [put_off(end) for end in ends if not isinstance(end, SuccessfulAttempt)]
    assert {each.reason for each in away} == {DeferralReason.QUEUE_FULL}
    assert {each.wait_ms for each in away} == {1_000}


async def test_a_wait_in_the_queue_has_a_bound() -> None:
    async with (
        Receiver() as receiver,
        open_dispatcher(callback_concurrency=1, callback_queue_wait_ms=100) as sender,
    ):
        first = asyncio.create_task(dispatch(sender, delivery(receiver.url(delay_ms=1_000))))
        await until(lambda: receiver.open_calls == 1)
        begun = time.monotonic()
        away = put_off(await dispatch(sender, delivery(receiver.url())))
        assert 0.09 < time.monotonic() - begun < 0.9
        assert away.reason is DeferralReason.QUEUE_FULL
        assert isinstance(await first, SuccessfulAttempt)
        assert isinstance(await dispatch(sender, delivery(receiver.url())), SuccessfulAttempt)


async def test_calls_altogether_have_a_bound_and_origins_take_turns() -> None:
    """Twenty deliveries for one origin wait before one for another: that one is served second."""
    async with (
        Receiver() as busy,
        Receiver() as other,
        open_dispatcher(callback_total_concurrency=1, callback_queue_wait_ms=20_000) as sender,
    ):
        crowd = [
            asyncio.create_task(dispatch(sender, delivery(busy.url(delay_ms=30), number)))
            for number in range(20)
        ]
        await until(lambda: len(busy.calls) == 1)
        assert isinstance(await dispatch(sender, delivery(other.url())), SuccessfulAttempt)
        assert len(busy.calls) <= 4
        await asyncio.gather(*crowd)
    assert busy.most_open_calls == 1


async def test_a_rate_is_kept_and_what_exceeds_it_is_put_off() -> None:
    async with (
        Receiver() as receiver,
        open_dispatcher(callback_rate=20.0, callback_queue_wait_ms=250) as sender,
    ):
        ends = await asyncio.gather(
            *(dispatch(sender, delivery(receiver.url(), number)) for number in range(8))
        )
    arrived = sorted(call.arrived_s for call in receiver.calls)
    assert len(arrived) <= 6
    assert arrived[-1] - arrived[0] >= 0.05 * (len(arrived) - 1) - 0.03
    assert {put_off(end).reason for end in ends if isinstance(end, Deferred)} == {DeferralReason.RATE_LIMITED}


async def test_a_destination_that_fails_is_left_alone_and_probed_once() -> None:
    async with (
        Receiver() as receiver,
        open_dispatcher(breaker_failures=3, breaker_open_ms=200) as sender,
    ):
        bad, good = receiver.url("/bad", status=500), receiver.url("/good")
        await fail(sender, bad, 3)
        away = put_off(await dispatch(sender, delivery(bad)))
        assert away.reason is DeferralReason.BREAKER_OPEN
        assert away.wait_ms >= 500
        assert isinstance(await dispatch(sender, delivery(good)), SuccessfulAttempt), "another URL"
        foreign = delivery(bad, source="another")
        assert error_of(await dispatch(sender, foreign)) is ErrorClass.HTTP_5XX, "another submitter"
        before = len(receiver.calls)
        probe: Dispatched = away
        while isinstance(probe, Deferred):
            probe = await dispatch(sender, delivery(bad))
            await asyncio.sleep(0.02)
        assert error_of(probe) is ErrorClass.HTTP_5XX
        assert isinstance(await dispatch(sender, delivery(bad)), Deferred), "open again"
        assert len(receiver.calls) == before + 1


async def test_an_origin_that_cannot_be_reached_is_left_alone_for_all_its_urls() -> None:
    async with Receiver() as receiver:
        url, other = receiver.url("/one"), receiver.url("/two")
    async with open_dispatcher(breaker_failures=3) as sender:
        await fail(sender, url, 3)
        assert (
            put_off(await dispatch(sender, delivery(other, source="x"))).reason is DeferralReason.BREAKER_OPEN
        )


async def test_those_who_wait_when_the_breaker_opens_are_not_sent() -> None:
    async with (
        Receiver() as receiver,
        open_dispatcher(
            breaker_failures=1, callback_concurrency=1, callback_queue=10, callback_queue_wait_ms=5_000
        ) as sender,
    ):
        url = receiver.url(status=500, delay_ms=50)
        ends = await asyncio.gather(*(dispatch(sender, delivery(url, number)) for number in range(10)))
    assert len(receiver.calls) == 1
    assert sum(isinstance(end, Deferred) for end in ends) == 9


async def test_a_receiver_that_asks_for_time_gets_it_at_this_url() -> None:
    async with Receiver() as receiver, open_dispatcher() as sender:
        url = receiver.url("/busy", status=429, retry_after=30)
        assert error_of(await dispatch(sender, delivery(url))) is ErrorClass.HTTP_429
        away = put_off(await dispatch(sender, delivery(url)))
        assert isinstance(await dispatch(sender, delivery(receiver.url("/idle"))), SuccessfulAttempt)
    assert away.wait_ms > 20_000
    assert len(receiver.calls) == 2


async def test_a_cancelled_probe_lets_another_one_go() -> None:
    async with (
        Receiver() as receiver,
        open_dispatcher(breaker_failures=1, breaker_open_ms=10) as sender,
    ):
        url = receiver.url("/x")
        receiver.paths["/x"] = replace(receiver.behaviour, status=500)
        await fail(sender, url, 1)
        receiver.paths["/x"] = replace(receiver.behaviour, delay_ms=60_000)
        probe = asyncio.create_task(dispatch(sender, delivery(url)))
        await until(lambda: len(receiver.calls) == 2 or probe.done())
        while probe.done():
            probe = asyncio.create_task(dispatch(sender, delivery(url)))
            await asyncio.sleep(0.02)
        assert isinstance(await dispatch(sender, delivery(url)), Deferred), "one probe at a time"
        probe.cancel()
        with pytest.raises(asyncio.CancelledError):
            await probe
        receiver.paths["/x"] = receiver.behaviour
        assert isinstance(await dispatch(sender, delivery(url)), SuccessfulAttempt)


@pytest.mark.parametrize(
    "query", ["status=410", "status=500&delivery=disable", "status=200&delivery=disable"]
)
async def test_a_receiver_that_wants_no_more_is_heeded_for_this_submitter_and_url(query: str) -> None:
    log = Log()
    async with Receiver() as receiver, open_dispatcher(log) as sender:
        url = f"{receiver.url()}?{query}"
        assert not isinstance(await dispatch(sender, delivery(url)), Disabled)
        disabled = await dispatch(sender, delivery(url))
        assert isinstance(disabled, Disabled)
        assert "receiver" in disabled.message
        assert not isinstance(await dispatch(sender, delivery(url, source="another")), Disabled)
    assert len(receiver.calls) == 2
    assert json.loads(log.records[0].value or b"")["url"].endswith("/hook?…")


async def test_a_log_that_is_away_does_not_fail_the_delivery_nor_forget_the_wish() -> None:
    log = Log()
    log.away = True
    async with Receiver() as receiver, open_dispatcher(log) as sender:
        gone = delivery(receiver.url(status=410))
        assert error_of(await dispatch(sender, gone)) is ErrorClass.HTTP_410
        assert error_of(await dispatch(sender, gone)) is ErrorClass.HTTP_410
        log.away = False
        assert error_of(await dispatch(sender, gone)) is ErrorClass.HTTP_410
        assert isinstance(await dispatch(sender, gone), Disabled)
    assert len(log.records) == 1


async def test_a_destination_that_hangs_leaves_another_one_s_pace_alone() -> None:
    async with (
        Receiver() as hanging,
        Receiver() as healthy,
        open_dispatcher(callback_timeout_ms=60_000, callback_queue_wait_ms=200) as sender,
    ):
        alone = await _paces(sender, healthy, 200)
        stuck = [
            asyncio.create_task(dispatch(sender, delivery(hanging.url(do="hang"), number)))
            for number in range(500)
        ]
        await until(lambda: hanging.open_calls == 8)
        beside = await _paces(sender, healthy, 200)
        await until(lambda: sum(task.done() for task in stuck) == 492)
        assert hanging.open_calls == 8, "nobody waits for it any longer but the calls that are under way"
        for task in stuck:
            task.cancel()
        await asyncio.gather(*stuck, return_exceptions=True)
    assert statistics.median(beside) < statistics.median(alone) * 2 + 2, (alone[0], beside[0])


async def _paces(sender: HttpDispatcher, receiver: Receiver, count: int) -> list[float]:
    """Durations in ms of deliveries one after the other, waits included."""
    durations = []
    for number in range(count):
        begun = time.perf_counter()
        assert isinstance(await dispatch(sender, delivery(receiver.url(), number)), SuccessfulAttempt)
        durations.append((time.perf_counter() - begun) * 1000)
    return sorted(durations)


async def test_who_waits_when_a_receiver_says_410_is_not_sent_any_more() -> None:
    log = Log()
    async with (
        Receiver() as receiver,
        open_dispatcher(log, callback_concurrency=2, callback_queue_wait_ms=5_000) as sender,
    ):
        url = receiver.url(status=410, delay_ms=20)
        ends = await asyncio.gather(*(dispatch(sender, delivery(url, number)) for number in range(60)))
    assert len(receiver.calls) <= 2 * 2, "those that were under way with the first"
    assert sum(isinstance(end, Disabled) for end in ends) >= 56
    assert len(log.records) == 1


async def test_the_cap_of_what_a_receiver_asks_for_bounds_the_breaker_too() -> None:
    async with Receiver() as receiver, open_dispatcher(retry_after_cap_ms=2_000) as sender:
        url = receiver.url("/busy", status=429, retry_after=3_600)
        await dispatch(sender, delivery(url))
        assert put_off(await dispatch(sender, delivery(url))).wait_ms <= 2_000


async def test_a_clock_that_is_set_back_does_not_keep_a_breaker_open() -> None:
    hour_ago = Clock()
    async with (
        Receiver() as receiver,
        open_dispatcher(clock=hour_ago, breaker_failures=1, breaker_open_ms=50) as sender,
    ):
        receiver.paths["/x"] = replace(receiver.behaviour, status=500)
        await fail(sender, receiver.url("/x"), 1)
        hour_ago.set_back_s = 3_600
        receiver.paths["/x"] = receiver.behaviour
        await asyncio.sleep(0.1)
        assert isinstance(await dispatch(sender, delivery(receiver.url("/x"))), SuccessfulAttempt)


class Clock:
    """A wall clock that can be set."""

    set_back_s = 0.0

    def __call__(self) -> float:
        return time.time() - self.set_back_s


async def test_64_hanging_ports_of_one_submitter_leave_a_healthy_origin_alone() -> None:
    """Each takes eight calls and answers none."""
    hanging = [Receiver() for _ in range(64)]
    async with AsyncExitStack() as stack:
        healthy = await stack.enter_async_context(Receiver())
        for each in hanging:
            await stack.enter_async_context(each)
        sender = await stack.enter_async_context(open_dispatcher(callback_timeout_ms=60_000))
        alone = await _paces(sender, healthy, 200)
        stuck = [
            asyncio.create_task(dispatch(sender, delivery(each.url(do="hang"), number), partition=number))
            for number in range(8)
            for each in hanging
        ]
        await until(lambda: sum(each.open_calls for each in hanging) == 512)
        beside = await _paces(sender, healthy, 200)
        for task in stuck:
            task.cancel()
        await asyncio.gather(*stuck, return_exceptions=True)
    assert statistics.median(beside) < statistics.median(alone) * 2 + 2, (alone[0], beside[0])
