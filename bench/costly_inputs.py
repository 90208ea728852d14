"""Sync calls while records that are costly to parse are taken up: python -m bench.costly_inputs.

Starts a system of its own, measures small sync calls at one connection while it is idle, and again while
megabytes of JSON are appended to the async topic, of each kind eight at a time.
"""

import argparse
import asyncio
import os
from collections.abc import Callable
from typing import Final

from aiokafka import AIOKafkaProducer

from bench.figures import Latencies, print_table
from bench.sync_behind_backlog import sync_calls
from bench.system import own_system
from infra.local.services import SERVICES
from shared.kafka.topics import Topic, topic_name
from shared.settings import KafkaSettings

WARM_UP: Final = 200
AT_A_TIME: Final = 8
BYTES: Final = 1_000_000

KINDS: Final[dict[str, Callable[[], bytes]]] = {
    "numbers": lambda: b"[" + b"1," * (BYTES // 2) + b"1]",
    "numbers, one of 19 digits": lambda: b"[" + b"1," * (BYTES // 2) + b"1" * 19 + b"]",
    "lists": lambda: b"[" + b"[]," * (BYTES // 3) + b"[]]",
    "lists of lists": lambda: b"[" + b"[[]]," * (BYTES // 5) + b"[]]",
    "keys": lambda: b"{" + b",".join(b'"%06x":1' % each for each in range(BYTES // 11)) + b"}",
    "text": lambda: b'"' + b"a" * BYTES + b'"',
}


async def append(log: KafkaSettings, value: bytes) -> None:
    """Eight records, straight into the log."""
    producer = AIOKafkaProducer(bootstrap_servers=log.kafka, acks="all", max_request_size=2 * BYTES)
    await producer.start()
    try:
        topic = topic_name(log, Topic.REQUESTS)
        await asyncio.gather(*[producer.send_and_wait(topic, value) for _ in range(AT_A_TIME)])
    finally:
        await producer.stop()


async def measure(calls: int) -> list[tuple[str, Latencies]]:
    """Latencies while idle, and beside each kind."""
    services = [each for each in SERVICES if each.name in ("ingest", "compute")]
    found = []
    async with own_system(services=services) as (system, log):
        await sync_calls(system.api, WARM_UP)
        found.append(("idle", await sync_calls(system.api, calls)))
        for name, make in KINDS.items():
            value = b'{"operation":"hash_chain","input":' + make() + b"}"
            sending = asyncio.create_task(append(log, value))
            found.append((name, await sync_calls(system.api, calls)))
            await sending
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--calls", type=int, default=200)
    options = parser.parse_args()
    load = os.getloadavg()[0]
    found = asyncio.run(measure(options.calls))
    print_table(
        (f"sync calls beside {AT_A_TIME} records of 1 MB, ms", "calls", "p50", "p95", "p99", "max"),
        [(name, *each.row()) for name, each in found],
    )
    print(f"load of the machine before: {load:.1f}")


if __name__ == "__main__":
    main()
