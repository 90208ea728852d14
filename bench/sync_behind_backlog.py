"""Sync calls while async work waits: python -m bench.sync_behind_backlog.

Starts a system of its own, measures sync calls at one connection while it is idle, then appends 20,000 async
requests of a few milliseconds each and measures the same calls until the backlog is half gone.
"""

import argparse
import asyncio
import json
import time
from typing import Final

import aiohttp
from aiokafka import AIOKafkaProducer

from bench.figures import Latencies, print_table
from bench.system import own_system
from infra.local.services import SERVICES
from shared.kafka.topics import Topic, topic_name
from shared.settings import KafkaSettings

WARM_UP: Final = 200
TASK_ROUNDS: Final = 20_000
"""Of hashing, for an async request: some ten milliseconds."""


async def sync_calls(api: str, count: int) -> Latencies:
    """One call after the other on one connection."""
    body = {"operation": "hash_chain", "input": {"seed": "sync", "rounds": 1}}
    found = Latencies()
    async with aiohttp.ClientSession() as session:
        for _ in range(count):
            began = time.perf_counter()
            async with session.post(f"{api}/v1/requests/sync", json=body) as response:
                answer = await response.json()
            if response.status != 200:
                raise SystemExit(f"a sync call was answered {response.status}: {answer}")
            found.extend([(time.perf_counter() - began) * 1000])
    return found


async def append_backlog(log: KafkaSettings, count: int) -> None:
    """Async requests without callbacks, straight into the log."""
    producer = AIOKafkaProducer(bootstrap_servers=log.kafka, acks="all", linger_ms=5)
    await producer.start()
    try:
        topic = topic_name(log, Topic.REQUESTS)
        for number in range(count):
            work = {"operation": "hash_chain", "input": {"seed": str(number), "rounds": TASK_ROUNDS}}
            await producer.send(topic, json.dumps(work).encode())
        await producer.flush()
    finally:
        await producer.stop()


async def measure(calls: int, backlog: int) -> tuple[Latencies, Latencies, float]:
    """Latencies while idle and behind the backlog; median computing time of one async request in ms."""
    services = [each for each in SERVICES if each.name in ("ingest", "compute")]
    async with own_system(services=services) as (system, log):
        await sync_calls(system.api, WARM_UP)
        idle = await sync_calls(system.api, calls)
        await append_backlog(log, backlog)
        behind = await sync_calls(system.api, calls)
        task_ms = await _task_ms(system.api)
    return idle, behind, task_ms


async def _task_ms(api: str) -> float:
    """What one async request costs while the others run."""
    body = {"operation": "hash_chain", "input": {"seed": "task", "rounds": TASK_ROUNDS}}
    found = Latencies()
    async with aiohttp.ClientSession() as session:
        for _ in range(20):
            async with session.post(f"{api}/v1/requests/sync", json=body) as response:
                found.extend([float((await response.json())["compute_ms"])])
    return found.percentile(50)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--calls", type=int, default=500)
    parser.add_argument("--backlog", type=int, default=20_000)
    options = parser.parse_args()
    idle, behind, task_ms = asyncio.run(measure(options.calls, options.backlog))
    print_table(
        ("sync calls, one connection, ms", "calls", "p50", "p95", "p99", "max"),
        [("idle", *idle.row()), (f"behind {options.backlog:,} async requests", *behind.row())],
    )
    allowed_ms = 2 * idle.percentile(99) + task_ms
    print(f"one async request computes for {task_ms:.1f} ms; twice the idle p99 + that = {allowed_ms:.1f} ms")


if __name__ == "__main__":
    main()
