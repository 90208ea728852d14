"""What bad destinations cost a healthy one, over HTTP alone: python -m bench.slow_destination.

A healthy receiver gets a steady rate of deliveries, alone and beside thousands for one that hangs, answers
after 25 s, or fails. What is put off comes back when it was told to, as it does through the retry tiers.
Durations are from the moment at which a delivery was due, so that a late start counts.
"""

import argparse
import asyncio
import base64
import multiprocessing
import random
import secrets
import time
from dataclasses import replace
from multiprocessing.connection import Connection
from typing import cast

import uvloop
from pydantic import SecretStr

from bench.figures import Latencies, print_table
from services.callback.dispatcher import HttpDispatcher
from services.callback.http_settings import CallbackHttpSettings
from services.callback.ports import Deferred, Where
from services.callback.return_clocks import ReturnClocks
from shared.domain.callbacks import Delivery
from shared.domain.retry_policy import with_jitter
from shared.domain.types import JsonText, Mode, RequestId
from shared.kafka.producer import SupervisedProducer
from shared.testing.receiver import Receiver

BAD = {"alone": None, "hangs": "do=hang", "answers after 25 s": "delay_ms=25000", "fails": "status=500"}


def serve(pipe: Connection) -> None:
    """Run a receiver in a process of its own."""

    async def run() -> None:
        async with Receiver() as receiver:
            pipe.send(receiver.port)
            await asyncio.to_thread(pipe.recv)

    uvloop.run(run())


def delivery(url: str, number: int) -> Delivery:
    """A delivery like any other."""
    return Delivery(
        request_id=RequestId(f"00000000-0000-4000-8000-{number:012d}"),
        mode=Mode.ASYNC,
        source="rest",
        operation="primes",
        accepted_at_ms=0,
        url=url,
        webhook_id=str(number),
        body=JsonText('{"id":"x","result":' + "1" * 200 + "}"),
        origin="results-0-0",
    )


async def deliver(dispatcher: HttpDispatcher, clocks: ReturnClocks, each: Delivery) -> None:
    """Attempt a delivery until it was attempted."""
    while True:
        dispatch = await dispatcher.dispatch(each, Where(0, len(each.body)))
        dispatch.recorded()
        deferred = dispatch.outcome
        if not isinstance(deferred, Deferred):
            return
        delay_ms = clocks.delay_ms(deferred.refused_by, deferred.wait_ms, time.monotonic() * 1000)
        await asyncio.sleep(with_jitter(delay_ms, random.random()) / 1000)
        each = replace(each, deferrals=each.deferrals + 1)


async def steadily(dispatcher: HttpDispatcher, url: str, rate: float, seconds: float) -> Latencies:
    """Durations of deliveries that are due at a fixed rate."""
    durations: list[float] = []

    async def one(number: int, due: float) -> None:
        await deliver(dispatcher, ReturnClocks(), delivery(url, number))
        durations.append((time.perf_counter() - due) * 1000)

    async with asyncio.TaskGroup() as tasks:
        begun = time.perf_counter()
        for number in range(int(rate * seconds)):
            due = begun + number / rate
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            tasks.create_task(one(number, due))
    return Latencies(durations)


async def measure(good: str, bad: str | None, options: argparse.Namespace) -> Latencies:
    """The healthy receiver's durations beside what `bad` gets."""
    secret = "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()
    settings = CallbackHttpSettings(webhook_secrets=SecretStr(secret), callback_allow="127.0.0.0/8")
    dispatcher = HttpDispatcher(settings, cast("SupervisedProducer", None))
    await dispatcher.open_connections()
    deliveries = [delivery(bad, number) for number in range(options.crowd)] if bad else []
    clocks = ReturnClocks()
    crowd = [asyncio.create_task(deliver(dispatcher, clocks, each)) for each in deliveries]
    await asyncio.sleep(1.0)
    try:
        return await steadily(dispatcher, good, options.rate, options.seconds)
    finally:
        for task in crowd:
            task.cancel()
        await asyncio.gather(*crowd, return_exceptions=True)
        await dispatcher.stop()


async def run(good: int, bad: int, options: argparse.Namespace) -> None:
    """Measure and print."""
    rows = []
    for name, query in BAD.items():
        url = f"http://127.0.0.1:{bad}/hook?{query}" if query else None
        rows.append((name, *(await measure(f"http://127.0.0.1:{good}/hook", url, options)).row()))
    print_table(("the other destination", "deliveries", "p50 ms", "p95 ms", "p99 ms", "longest ms"), rows)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--rate", type=float, default=100.0)
    parser.add_argument("--crowd", type=int, default=5_000)
    options = parser.parse_args()
    spawn = multiprocessing.get_context("spawn")
    pipes, ports = [], []
    for _ in range(2):
        ours, theirs = multiprocessing.Pipe()
        spawn.Process(target=serve, args=(theirs,), daemon=True).start()
        pipes.append(ours)
        ports.append(ours.recv())
    uvloop.run(run(ports[0], ports[1], options))
    for pipe in pipes:
        pipe.send(None)


if __name__ == "__main__":
    main()
