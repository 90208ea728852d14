"""What receivers do to a caller, each with its class and within its time."""

import asyncio
import socket
import time
import tracemalloc

import pytest

from services.callback.call import Answer, CallFailure
from services.callback.http_client import BODY_CAP, EXCERPT_BYTES, EXCERPT_S
from shared.domain.retry_policy import ErrorClass
from shared.testing.receiver import Receiver
from tests.integration.callback_http.support import failed, open_client, post

CLASS_OF: dict[str, ErrorClass] = {
    "status=500": ErrorClass.HTTP_5XX,
    "status=503&retry_after=2": ErrorClass.HTTP_5XX,
    "status=429": ErrorClass.HTTP_429,
    "status=408": ErrorClass.HTTP_RETRYABLE_4XX,
    "status=404": ErrorClass.HTTP_4XX,
    "status=410": ErrorClass.HTTP_410,
    "status=302&location=/hook": ErrorClass.HTTP_3XX,
    "status=308&location=http%3A%2F%2F169.254.169.254%2F": ErrorClass.HTTP_3XX,
    "status=304": ErrorClass.HTTP_3XX,
    "status=999": ErrorClass.PROTOCOL,
    "status=500&delivery=abort-message": ErrorClass.ABORTED,
    "do=reset": ErrorClass.RESET,
    "do=reset-early": ErrorClass.RESET,
    "do=close": ErrorClass.RESET,
    "do=garbage": ErrorClass.PROTOCOL,
    "do=huge-header": ErrorClass.PROTOCOL,
    "do=many-headers": ErrorClass.PROTOCOL,
    "do=hang": ErrorClass.TIMEOUT_RESPONSE,
    "do=drip-headers": ErrorClass.TIMEOUT_RESPONSE,
    "status=101": ErrorClass.PROTOCOL,
}


@pytest.mark.parametrize("query", CLASS_OF)
async def test_every_hazard_has_its_class(query: str) -> None:
    async with Receiver() as receiver, open_client() as client:
        outcome = await post(client, f"{receiver.url()}?{query}", timeout_s=0.5)
    assert failed(outcome).error_class is CLASS_OF[query]
    assert len(receiver.calls) <= 1, "nothing is sent again, and no redirect is followed"


@pytest.mark.parametrize("do", ["drip", "truncate", "flood", "bomb"])
async def test_the_status_line_decides_whatever_becomes_of_the_body(do: str) -> None:
    async with Receiver() as receiver, open_client() as client:
        timeout_s = 0.5 if do == "drip" else 10.0
        outcome = await post(client, receiver.url(do=do), timeout_s=timeout_s)
        refused = await post(client, receiver.url(do=do, status=500), timeout_s=timeout_s)
    assert isinstance(outcome, Answer)
    assert outcome.status == 200
    assert failed(refused).error_class is ErrorClass.HTTP_5XX
    assert len(outcome.excerpt) <= EXCERPT_BYTES


@pytest.mark.parametrize("do", ["hang", "drip-headers"])
async def test_the_deadline_ends_everything(do: str) -> None:
    loop = asyncio.get_running_loop()
    async with Receiver() as receiver, open_client() as client:
        begun = loop.time()
        await post(client, receiver.url(do=do), timeout_s=1.0)
        assert 0.99 <= loop.time() - begun <= 1.5


async def test_a_refusal_waits_a_second_for_what_its_body_says() -> None:
    loop = asyncio.get_running_loop()
    async with Receiver() as receiver, open_client() as client:
        begun = loop.time()
        assert isinstance(await post(client, receiver.url(do="drip", status=500)), Answer)
        assert EXCERPT_S - 0.01 <= loop.time() - begun <= EXCERPT_S + 0.5


async def test_an_answer_of_any_size_costs_no_memory() -> None:
    async with Receiver() as receiver, open_client() as client:
        await post(client, receiver.url(do="bomb"))
        tracemalloc.start()
        try:
            for _ in range(3):
                await post(client, receiver.url(do="bomb"))
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert peak < 8 * BODY_CAP, "the bomb was inflated"


async def test_a_connection_is_kept_for_each_concurrent_call() -> None:
    async with Receiver() as receiver, open_client() as client:
        for _ in range(20):
            await asyncio.gather(*(post(client, receiver.url(delay_ms=5)) for _ in range(8)))
        assert receiver.connections == 8
        assert len(receiver.calls) == 160


async def test_a_connection_that_the_receiver_closes_after_the_answer_is_not_used_again() -> None:
    async with Receiver() as receiver, open_client() as client:
        for _ in range(5):
            outcome = await post(client, receiver.url(keep="false"))
            assert isinstance(outcome, Answer)
        assert receiver.connections == 5


async def test_cookies_are_not_sent_back() -> None:
    async with Receiver() as receiver, open_client() as client:
        await post(client, receiver.url(cookie="a=b; Path=/"))
        await post(client, receiver.url())
    assert all("cookie" not in {name.lower() for name, _ in call.headers} for call in receiver.calls)


async def test_proxies_of_the_environment_are_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    async with Receiver() as receiver, open_client() as client:
        assert isinstance(await post(client, receiver.url()), Answer)


async def test_a_large_body_arrives_whole() -> None:
    body = b'"' + b"x" * 3_000_000 + b'"'
    async with Receiver() as receiver, open_client() as client:
        assert isinstance(await post(client, receiver.url(), body=body), Answer)
    assert receiver.calls[0].body_bytes == len(body)


async def test_an_answer_that_comes_before_the_whole_request_was_sent_counts() -> None:
    body = b'"' + b"x" * 9_000_000 + b'"'
    async with Receiver() as receiver, open_client() as client:
        outcome = await post(client, receiver.url(), body=body)
    assert isinstance(outcome, Answer | CallFailure)
    assert failed(outcome).error_class in (ErrorClass.HTTP_4XX, ErrorClass.RESET)


async def test_nobody_listens() -> None:
    async with Receiver() as receiver:
        url = receiver.url()
    async with open_client() as client:
        attempt = failed(await post(client, url))
    assert attempt.error_class is ErrorClass.REFUSED


async def test_a_name_that_does_not_exist() -> None:
    async with open_client() as client:
        attempt = failed(await post(client, "http://receiver.invalid/hook?token=hidden"))
    assert attempt.error_class is ErrorClass.DNS
    assert "hidden" not in attempt.message


async def test_a_port_that_accepts_and_says_nothing_before_anything_is_sent() -> None:
    """A TLS handshake that is never answered: nothing of the request has left."""
    listener = socket.create_server(("127.0.0.1", 0))
    begun = time.monotonic()
    with listener:
        async with open_client(connect_timeout_s=0.3) as client:
            attempt = failed(await post(client, f"https://127.0.0.1:{listener.getsockname()[1]}/"))
    assert attempt.error_class is ErrorClass.TIMEOUT_CONNECT
    assert time.monotonic() - begun < 3


async def test_cancelling_a_call_frees_its_connection() -> None:
    async with Receiver() as receiver, open_client() as client:
        call = asyncio.create_task(post(client, receiver.url(do="hang")))
        while not receiver.calls:  # noqa: ASYNC110 - the receiver sets no event
            await asyncio.sleep(0.005)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert isinstance(await post(client, receiver.url()), Answer)
