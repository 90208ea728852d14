"""An answer is an answer to what was sent, and its status line decides: against servers that say anything."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final

import pytest
import uvloop

from services.callback.call import Answer, CallFailure
from shared.domain.retry_policy import ErrorClass
from tests.integration.callback_http.raw_server import OK, UNWELL, Peer, RawServer
from tests.integration.callback_http.support import failed, open_client, post

LOOPS: Final = [asyncio.new_event_loop, uvloop.new_event_loop]
on_both_loops = pytest.mark.parametrize("loop", LOOPS, ids=["asyncio", "uvloop"])
Loop = Callable[[], asyncio.AbstractEventLoop]


def run(loop: Loop, scenario: Coroutine[Any, Any, None]) -> None:
    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(asyncio.wait_for(scenario, 30))


def status(outcome: object) -> int | ErrorClass:
    if isinstance(outcome, CallFailure):
        return outcome.error_class
    assert isinstance(outcome, Answer)
    return outcome.status


async def two_calls(
    treat: Callable[[Peer, list[bytes]], Awaitable[None]], between: Callable[[RawServer], Awaitable[None]]
) -> tuple[object, int]:
    """How the second of two calls ended, and how many requests the server was sent."""
    requests: list[bytes] = []
    async with RawServer(lambda peer: treat(peer, requests)) as server, open_client() as client:
        assert status(await post(client, server.url)) == 200
        await between(server)
        outcome = await post(client, server.url)
        await asyncio.sleep(0.02)
        return outcome, len(requests)


async def answer_then(peer: Peer, requests: list[bytes], *more: bytes) -> None:
    """Answer the first request, say more, and be unwell for every later one."""
    requests.append(await peer.request())
    await peer.say(OK if len(requests) == 1 else UNWELL)
    if len(requests) == 1:
        await peer.say(*more)
    while True:
        requests.append(await peer.request())
        await peer.say(UNWELL)


async def a_moment(_: RawServer) -> None:
    await asyncio.sleep(0.1)


@on_both_loops
@pytest.mark.parametrize(
    "more",
    [(OK,), (b"HTTP/1.1 200 OK\r\nContent-Le",), (b"\r\n",), (b"\r\n", b"HTTP/1.1 200 OK\r\n")],
    ids=["an answer", "part of one", "an empty line", "two parts"],
)
def test_what_lies_in_a_kept_connection_answers_nobody(loop: Loop, more: tuple[bytes, ...]) -> None:
    async def scenario() -> None:
        outcome, requests = await two_calls(
            lambda peer, requests: answer_then(peer, requests, *more), a_moment
        )
        assert (status(outcome), requests) == (503, 2)

    run(loop, scenario())


@on_both_loops
def test_what_comes_with_an_answer_answers_nobody_else(loop: Loop) -> None:
    async def twice(peer: Peer, requests: list[bytes]) -> None:
        requests.append(await peer.request())
        await peer.say(OK + OK if len(requests) == 1 else UNWELL)

    async def nothing(_: RawServer) -> None:
        pass

    async def scenario() -> None:
        outcome, requests = await two_calls(twice, nothing)
        assert (status(outcome), requests) == (503, 2)

    run(loop, scenario())


@on_both_loops
def test_what_the_event_loop_has_not_read_yet_answers_nobody(loop: Loop) -> None:
    async def say_now(server: RawServer) -> None:
        await asyncio.sleep(0.05)
        server.peers[0].say_now(OK)

    async def scenario() -> None:
        outcome, requests = await two_calls(answer_then, say_now)
        assert (status(outcome), requests) == (503, 2)

    run(loop, scenario())


@on_both_loops
def test_a_connection_that_is_just_being_closed_is_replaced(loop: Loop) -> None:
    async def once(peer: Peer, requests: list[bytes]) -> None:
        requests.append(await peer.request())
        await peer.say(OK)
        await peer.half_closed.wait()

    async def close_now(server: RawServer) -> None:
        await asyncio.sleep(0.05)
        server.peers[0].half_close_now()

    async def scenario() -> None:
        outcome, requests = await two_calls(once, close_now)
        assert (status(outcome), requests) == (200, 2)

    run(loop, scenario())


@on_both_loops
@pytest.mark.parametrize("words", [OK, b"HTTP/1.1 200 OK\r\n", b"SSH-2.0-OpenSSH_9.2\r\n"])
def test_a_server_that_speaks_before_it_is_asked_has_not_answered(loop: Loop, words: bytes) -> None:
    async def speak_first(peer: Peer) -> None:
        peer.say_now(words)
        await asyncio.sleep(0.05)
        await peer.say(b"\r\n")

    async def scenario() -> None:
        async with RawServer(speak_first) as server, open_client() as client:
            assert failed(await post(client, server.url)).error_class is ErrorClass.PROTOCOL
            await server.until_all_closed()

    run(loop, scenario())


CHUNKED: Final = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
LONG: Final = b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n"
SHORT: Final = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n"
UNTIDY: Final = {
    "a bad chunk": (CHUNKED + b"no chunk at all\r\n",),
    "a bad chunk later": (CHUNKED, b"no chunk at all\r\n"),
    "a chunk that never ends": (CHUNKED + b"5\r\nab",),
    "more than the body": (SHORT + b"done and garbage",),
    "garbage after no body": (OK + b"garbage",),
    "a second answer": (OK + OK,),
    "a part of a second answer": (OK + b"HTTP/1.1 200 OK\r\nX: ",),
    "a body that hangs": (LONG + b"x",),
    "a body that drips": (LONG, *[b"x"] * 200),
    "a body where none may be": (b"HTTP/1.1 204 No Content\r\n\r\nbody",),
}


@on_both_loops
@pytest.mark.parametrize("words", UNTIDY.values(), ids=UNTIDY)
def test_a_success_is_one_whatever_follows_its_head(loop: Loop, words: tuple[bytes, ...]) -> None:
    async def untidy(peer: Peer) -> None:
        await peer.request()
        await peer.say(*words)

    async def scenario() -> None:
        async with RawServer(untidy) as server, open_client() as client:
            begun = time.monotonic()
            assert status(await post(client, server.url)) in (200, 204)
            assert time.monotonic() - begun < 0.1 + MACHINE_S
            await server.until_all_closed()

    run(loop, scenario())


MACHINE_S: Final = 0.2
"""What a busy machine may add to any time here."""


@on_both_loops
@pytest.mark.parametrize(
    "words",
    [
        tuple(bytes([byte]) for byte in SHORT + b"done"),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + SHORT + b"done",),
        (b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n", SHORT, b"done"),
        (b"HTTP/1.1 200 OK\nContent-Length: 4\n\ndone",),
        (CHUNKED + b"4\r\ndone\r\n0\r\n\r\n",),
        (CHUNKED, b"4\r\ndo", b"ne\r\n0\r\n", b"Trailer: a\r\n\r\n"),
        (b"HTTP/1.1 204 No Content\r\n\r\n",),
    ],
    ids=["byte by byte", "continue", "early hints", "bare line feeds", "chunked", "trailers", "no content"],
)
def test_a_tidy_answer_keeps_its_connection(loop: Loop, words: tuple[bytes, ...]) -> None:
    async def tidy(peer: Peer) -> None:
        while True:
            await peer.request()
            await peer.say(*words)

    async def scenario() -> None:
        async with RawServer(tidy) as server, open_client() as client:
            for _ in range(3):
                assert status(await post(client, server.url)) in (200, 204)
            assert len(server.peers) == 1

    run(loop, scenario())


@on_both_loops
def test_calls_to_a_busy_origin_reuse_connections(loop: Loop) -> None:
    async def busy(peer: Peer) -> None:
        while True:
            await peer.request()
            await peer.say(SHORT + b"done")

    async def scenario() -> None:
        async with RawServer(busy) as server, open_client() as client:

            async def caller() -> None:
                for _ in range(50):
                    assert status(await post(client, server.url)) == 200

            await asyncio.gather(*(caller() for _ in range(8)))
            assert len(server.peers) <= 20, "fewer than 95 % of 400 calls reused a connection"

    run(loop, scenario())


@pytest.mark.parametrize("target", ["/a%2Fb/./../%7E?sig=%21a%2Bb%2F&x=", "/?", "/a?b?c"])
async def test_the_request_line_is_the_url_as_it_was_given(target: str) -> None:
    lines: list[bytes] = []

    async def listen(peer: Peer) -> None:
        lines.append((await peer.request()).partition(b"\r\n")[0])
        await peer.say(OK)

    async with RawServer(listen) as server, open_client() as client:
        await post(client, server.url.removesuffix("/hook") + target)
    assert lines == [f"POST {target} HTTP/1.1".encode()]
