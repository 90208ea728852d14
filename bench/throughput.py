"""Requests a second from a direct producer, beside a bare pool: python -m bench.throughput.

One compute process with two slots, nothing projected; the broker runs on the same machine. A trivial
operation, so that everything but the operation is measured. The pool gets the same inputs, the same
validation and encoding, and neither log nor isolation.
"""

import argparse
import asyncio
import itertools
import json
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from typing import Final

from confluent_kafka import Consumer, Producer, TopicPartition

from bench.figures import print_table
from bench.slots import compute, throughput
from bench.system import own_system
from bench.topics import own_topics
from shared.kafka.topics import Topic, topic_name
from shared.settings import KafkaSettings

WARM_UP: Final = 500
TIMEOUT_S: Final = 180.0


def input_of(number: int) -> bytes:
    """A small input of its own for each request."""
    return json.dumps({"seed": f"bench-{number}", "rounds": 1}).encode()


@contextmanager
def running_compute(settings: KafkaSettings, slots: int) -> Iterator[None]:
    """One compute process; its log goes to standard error from warnings on."""
    environment = {
        **os.environ,
        "CONSUMA_KAFKA": settings.kafka,
        "CONSUMA_TOPIC_PREFIX": settings.topic_prefix,
        "CONSUMA_INSTANCE": "compute-0",
        "CONSUMA_SLOTS": str(slots),
        "CONSUMA_LOG_LEVEL": "warning",
    }
    process = subprocess.Popen([sys.executable, "-m", "services.compute"], env=environment)
    try:
        yield
    finally:
        process.terminate()
        process.wait(60)


def produce(settings: KafkaSettings, first: int, count: int) -> None:
    """Append bare JSON as a plain producer would, without keys."""
    producer = Producer({"bootstrap.servers": settings.kafka, "acks": "all", "linger.ms": 5})
    topic = topic_name(settings, Topic.REQUESTS)
    for number in range(first, first + count):
        value = json.dumps({"operation": "hash_chain", "input": json.loads(input_of(number))})
        while True:
            try:
                producer.produce(topic, value=value)
                break
            except BufferError:
                producer.poll(0.1)
        producer.poll(0)
    if producer.flush(TIMEOUT_S):
        raise SystemExit("the broker did not acknowledge every record")


class Results:
    """Counts outcomes in the log."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._consumer = Consumer(
            {"bootstrap.servers": settings.kafka, "group.id": "bench", "enable.auto.commit": False}
        )
        topic = topic_name(settings, Topic.RESULTS)
        self._consumer.assign([TopicPartition(topic, number, 0) for number in range(settings.partitions)])

    def wait_for(self, count: int) -> None:
        """Return when `count` more requests have succeeded."""
        give_up_at = time.monotonic() + TIMEOUT_S
        while count > 0:
            if time.monotonic() > give_up_at:
                raise SystemExit(f"{count} results did not come within {TIMEOUT_S:.0f} s")
            for message in self._consumer.consume(1_000, timeout=0.5):
                headers = dict(message.headers() or [])
                kind = headers.get("ce_type")
                if kind == b"consuma.request.failed.v1":
                    raise SystemExit(f"a request failed: {message.value()!r}")
                count -= kind == b"consuma.request.succeeded.v1"

    def close(self) -> None:
        """Leave."""
        self._consumer.close()


def consuma_rate(settings: KafkaSettings, count: int, slots: int) -> float:
    """Requests a second from the first append to the last result."""
    results = Results(settings)
    with running_compute(settings, slots):
        produce(settings, 0, WARM_UP)
        results.wait_for(WARM_UP)
        began = time.perf_counter()
        produce(settings, WARM_UP, count)
        results.wait_for(count)
        seconds = time.perf_counter() - began
    results.close()
    return count / seconds


async def pool_rate(count: int, workers: int) -> float:
    """Calls a second of a bare pool whose queue never runs dry."""
    loop = asyncio.get_running_loop()
    numbers = itertools.count()
    with ProcessPoolExecutor(workers) as pool:

        async def call() -> bytes:
            return await loop.run_in_executor(pool, compute, "hash_chain", input_of(next(numbers)))

        await throughput(call, WARM_UP)
        return await throughput(call, count)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kafka", help="host:port of a broker; without it one is started")
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--slots", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args()
    if options.kafka is None:
        asyncio.run(on_own_broker(options))
    else:
        measure(options.kafka, options)


async def on_own_broker(options: argparse.Namespace) -> None:
    """Measure on a broker that is started for it."""
    async with own_system(services=()) as (system, _):
        await asyncio.to_thread(measure, system.kafka, options)


def measure(kafka: str, options: argparse.Namespace) -> None:
    """Round after round, each system in turn."""
    ours, theirs = [], []
    for _ in range(options.rounds):
        settings = KafkaSettings(kafka=kafka, topic_prefix=f"bench-{secrets.token_hex(4)}.")
        with own_topics(settings):
            ours.append(consuma_rate(settings, options.requests, options.slots))
        theirs.append(asyncio.run(pool_rate(options.requests, options.slots)))
    print(f"{os.cpu_count()} cores, {options.slots} slots, {options.requests:,} requests a round")
    rows = [
        ("consuma, direct producer to result in the log", *(f"{rate:,.0f}" for rate in ours)),
        (f"ProcessPoolExecutor({options.slots}), no log", *(f"{rate:,.0f}" for rate in theirs)),
    ]
    print_table(("requests/s", *(f"round {number + 1}" for number in range(options.rounds))), rows)


if __name__ == "__main__":
    main()
