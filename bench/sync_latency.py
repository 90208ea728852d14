"""Latency of a sync call at one connection: python -m bench.sync_latency --url http://127.0.0.1:8000.

Blocks of calls to a running consuma and to a FastAPI endpoint that does nothing alternate on kept
connections, so that both see the same machine. What lies between the two is consuma: validation, two topics,
a slot.
"""

import argparse
import http.client
import json
import multiprocessing
import socket
import time
from collections.abc import Callable
from typing import Final
from urllib.parse import urlsplit

import uvicorn
from fastapi import FastAPI

from bench.figures import Latencies, print_table

WARM_UP: Final = 200
BLOCKS: Final = 10
TIMEOUT_S: Final = 60.0
BODY: Final = json.dumps({"operation": "hash_chain", "input": {"seed": "bench", "rounds": 1}}).encode()


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--url", default="http://127.0.0.1:8000", help="where consuma's API listens")
    parser.add_argument("--calls", type=int, default=2_000, help="calls to each of the two")
    options = parser.parse_args()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = multiprocessing.get_context("spawn").Process(
            target=serve_nothing, args=(listener,), daemon=True
        )
        server.start()
        try:
            port = listener.getsockname()[1]
            consuma = caller(options.url, "/v1/requests/sync")
            nothing = caller(f"http://127.0.0.1:{port}", "/")
            report(*measure(consuma, nothing, options.calls))
        finally:
            server.terminate()
            server.join(TIMEOUT_S)


def serve_nothing(listener: socket.socket) -> None:
    """An endpoint that reads its body and answers: the least that any FastAPI service costs."""
    app = FastAPI()

    @app.post("/")
    async def nothing(body: dict[str, object]) -> dict[str, str]:
        return {"status": "succeeded", "operation": str(body["operation"])}

    config = uvicorn.Config(app, log_level="warning", access_log=False, loop="uvloop", http="httptools")
    uvicorn.Server(config).run(sockets=[listener])


def caller(url: str, path: str) -> Callable[[], float]:
    """A function that makes one call on a kept connection and returns its milliseconds."""
    host = urlsplit(url)
    connection = http.client.HTTPConnection(host.hostname or "", host.port, timeout=TIMEOUT_S)
    connection.connect()
    connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    headers = {"Content-Type": "application/json"}

    def call() -> float:
        began = time.perf_counter()
        connection.request("POST", path, BODY, headers)
        response = connection.getresponse()
        answer = json.loads(response.read())
        took_ms = (time.perf_counter() - began) * 1000
        if response.status != 200 or answer["status"] != "succeeded":
            raise SystemExit(f"{url}{path} answered {response.status}: {answer}")
        return took_ms

    return call


def measure(
    consuma: Callable[[], float], nothing: Callable[[], float], calls: int
) -> tuple[Latencies, Latencies]:
    """Latencies of both, taken in alternating blocks."""
    for _ in range(WARM_UP):
        consuma()
        nothing()
    ours, theirs = Latencies(), Latencies()
    for _ in range(BLOCKS):
        ours.extend(consuma() for _ in range(calls // BLOCKS))
        theirs.extend(nothing() for _ in range(calls // BLOCKS))
    return ours, theirs


def report(consuma: Latencies, nothing: Latencies) -> None:
    """Both side by side, and the ratio of their medians."""
    print_table(
        ("one connection, ms", "calls", "p50", "p95", "p99", "max"),
        [
            ("sync call (hash_chain, 1 round)", *consuma.row()),
            ("FastAPI endpoint that does nothing", *nothing.row()),
        ],
    )
    print(f"ratio of the medians: {consuma.percentile(50) / nothing.percentile(50):.1f}")


if __name__ == "__main__":
    main()
