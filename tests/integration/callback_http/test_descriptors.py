"""Sockets are a budget: idle ones are bounded, and to have none left is no fault of a receiver."""

import resource
import socket

import pytest

from services.callback.call import Answer, NotBegun
from services.callback.ports import DeferralReason, Deferred
from shared.open_files import raise_open_files
from shared.testing.receiver import Receiver
from tests.integration.callback_http.support import delivery, dispatch, open_client, open_dispatcher, post


async def test_idle_connections_are_bounded_and_the_oldest_goes_first() -> None:
    async with Receiver(host="0.0.0.0") as receiver, open_client(most_idle=4) as client:
        for last in range(1, 11):
            assert isinstance(await post(client, f"http://127.0.0.{last}:{receiver.port}/"), Answer)
        assert receiver.connections == 10
        for last in range(7, 11):
            await post(client, f"http://127.0.0.{last}:{receiver.port}/")
        assert receiver.connections == 10, "the four youngest were kept"
        await post(client, f"http://127.0.0.6:{receiver.port}/")
        assert receiver.connections == 11


@pytest.mark.parametrize("number", [23, 24, 105])
async def test_a_process_out_of_descriptors_puts_off_and_blames_nobody(
    number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(*_: object) -> socket.socket:
        raise OSError(number, "none left")

    async with Receiver() as receiver, open_dispatcher(breaker_failures=1) as dispatcher:
        with monkeypatch.context() as patch:
            patch.setattr("services.callback.http_client.open_socket", none)
            for _ in range(3):
                away = await dispatch(dispatcher, delivery(receiver.url()))
                assert isinstance(away, Deferred)
                assert away.reason is DeferralReason.NOT_BEGUN
        assert not isinstance(await dispatch(dispatcher, delivery(receiver.url())), Deferred)


async def test_a_forward_proxy_that_is_down_or_says_no_is_no_fault_of_a_receiver() -> None:
    async with Receiver() as gone:
        address = f"http://127.0.0.1:{gone.port}"
    async with open_client(proxy=address) as client:
        assert isinstance(await post(client, "http://receiver.test/"), NotBegun)
        assert isinstance(await post(client, "https://receiver.test/"), NotBegun)
    async with open_client(proxy="http://proxy.invalid:3128") as client:
        assert isinstance(await post(client, "http://receiver.test/"), NotBegun)


def test_the_limit_of_open_files_is_raised() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 512), hard))
        raised = raise_open_files()
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == raised
        assert raised > 512 or hard <= 512
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
