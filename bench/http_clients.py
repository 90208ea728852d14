"""POST/s and latency of HTTP clients from one process, against a receiver in another that does nothing.

`httpx` by its own transport and by `httpx-aiohttp` (measured where that package is installed), `aiohttp`
itself, and the callback service's client, which adds the address policy, the deadline, the capped body and
the classification of errors.

    python -m bench.http_clients [--seconds 3] [--connections 1,16,64]
"""

import argparse
import asyncio
import contextlib
import importlib
import importlib.util
import multiprocessing
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from multiprocessing.connection import Connection
from typing import cast

import aiohttp
import httpx
import uvloop

from bench.figures import Latencies, print_table
from services.callback.call import Call, CallFailure, NotBegun
from services.callback.http_client import HttpClient
from services.callback.resolver import SystemLookup
from services.callback.targets import TargetPolicy
from shared.domain.address_policy import AddressPolicy, parse_networks

BODY = b'{"id":"0191","status":"succeeded","result":"' + b"x" * 950 + b'"}'
HEADERS = {"Content-Type": "application/json", "webhook-id": "0191"}
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
WARM_UP_S = 0.5

Post = Callable[[str], Awaitable[None]]
OpenClient = Callable[[int], contextlib.AbstractAsyncContextManager[Post]]


class Sink(asyncio.Protocol):
    """Answers every request of a known shape as soon as its body is there."""

    opened = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Count the connection."""
        Sink.opened += 1
        self.transport = cast("asyncio.WriteTransport", transport)
        self.buffer = b""

    def data_received(self, data: bytes) -> None:
        """Answer as many requests as are complete."""
        self.buffer += data
        while (head := self.buffer.find(b"\r\n\r\n")) >= 0 and len(self.buffer) >= head + 4 + len(BODY):
            self.buffer = self.buffer[head + 4 + len(BODY) :]
            self.transport.write(ANSWER)


def serve(pipe: Connection) -> None:
    """Run the receiver; tells its port, and how many connections it has seen when asked."""

    async def run() -> None:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(Sink, "127.0.0.1", 0)
        pipe.send(server.sockets[0].getsockname()[1])
        while await asyncio.to_thread(pipe.recv):
            pipe.send(Sink.opened)
            Sink.opened = 0

    uvloop.run(run())


@asynccontextmanager
async def by_httpx(connections: int) -> AsyncIterator[Post]:
    """`httpx` as it comes."""
    limits = httpx.Limits(max_connections=connections, max_keepalive_connections=connections)
    async with httpx.AsyncClient(limits=limits, trust_env=False) as client:
        yield lambda url: _checked(client.post(url, content=BODY, headers=HEADERS))


@asynccontextmanager
async def by_httpx_aiohttp(_: int) -> AsyncIterator[Post]:
    """`httpx` on top of `aiohttp`."""
    transport = importlib.import_module("httpx_aiohttp").AiohttpTransport()
    async with httpx.AsyncClient(transport=transport, trust_env=False) as client:
        yield lambda url: _checked(client.post(url, content=BODY, headers=HEADERS))


@asynccontextmanager
async def by_aiohttp(_: int) -> AsyncIterator[Post]:
    """`aiohttp` with as little around it as possible."""
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

        async def post(url: str) -> None:
            async with session.post(url, data=BODY, headers=HEADERS) as response:
                await response.read()

        yield post


@asynccontextmanager
async def by_our_client(_: int) -> AsyncIterator[Post]:
    """The callback service's client."""
    lookup = SystemLookup()
    client = HttpClient(
        TargetPolicy(AddressPolicy(parse_networks("127.0.0.0/8"))),
        lookup,
        connect_timeout_s=5.0,
        ssl_context=ssl.create_default_context(),
    )
    await client.start()

    async def post(url: str) -> None:
        outcome = await client.post(Call(url=url, headers=HEADERS, body=BODY, timeout_s=30.0))
        match outcome:
            case CallFailure(message=message) | NotBegun(message=message):
                raise RuntimeError(message)

    try:
        yield post
    finally:
        await client.stop()
        await lookup.close()


CLIENTS: dict[str, OpenClient] = {
    "httpx": by_httpx,
    "httpx-aiohttp": by_httpx_aiohttp,
    "aiohttp": by_aiohttp,
    "callback client": by_our_client,
}


async def _checked(answer: Awaitable[httpx.Response]) -> None:
    (await answer).raise_for_status()


async def measure(open_client: OpenClient, url: str, connections: int, seconds: float) -> Latencies:
    """Durations in ms of the calls that were made in `seconds`."""
    durations: list[float] = []

    async def call_until(end: float, post: Post, into: list[float]) -> None:
        while (begun := time.perf_counter()) < end:
            await post(url)
            into.append((time.perf_counter() - begun) * 1000)

    async with open_client(connections) as post:
        for period, into in ((WARM_UP_S, []), (seconds, durations)):
            end = time.perf_counter() + period
            await asyncio.gather(*(call_until(end, post, into) for _ in range(connections)))
    return Latencies(durations)


async def run(port: int, pipe: Connection, connections: list[int], seconds: float) -> None:
    """Measure every client at every number of connections."""
    rows = []
    for name, open_client in CLIENTS.items():
        if name == "httpx-aiohttp" and importlib.util.find_spec("httpx_aiohttp") is None:
            print(f"{name} is not installed")
            continue
        for count in connections:
            durations = await measure(open_client, f"http://127.0.0.1:{port}/hook", count, seconds)
            pipe.send(True)
            opened = await asyncio.to_thread(pipe.recv)
            p50, p99 = (f"{durations.percentile(percent):.2f}" for percent in (50, 99))
            rows.append((name, str(count), f"{len(durations) / seconds:,.0f}", p50, p99, str(opened)))
    print_table(("client", "calls at a time", "POST/s", "p50 ms", "p99 ms", "connections"), rows)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--connections", default="1,16,64")
    options = parser.parse_args()
    counts = [int(count) for count in options.connections.split(",")]
    ours, theirs = multiprocessing.Pipe()
    receiver = multiprocessing.get_context("spawn").Process(target=serve, args=(theirs,), daemon=True)
    receiver.start()
    uvloop.run(run(ours.recv(), ours, counts, options.seconds))
    ours.send(False)
    receiver.join(5)


if __name__ == "__main__":
    main()
