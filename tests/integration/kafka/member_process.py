"""A group member as a process of its own; what it does is in the records, what it did is on stdout.

A record's value is a JSON object: `sleep_ms` is slept; `kill` ends the process as a crash would, at once.
Every line on stdout is a JSON object with `event` and, for records, `at` (partition, offset) and `time_ms`.
"""

import asyncio
import json
import os
import signal
import sys
import time

from shared.kafka.consumer import PartitionConsumer, Probation
from shared.kafka.records import Partition, Record
from shared.kafka.topics import Topic
from shared.observability.logs import configure_logging
from shared.settings import ServiceSettings


def tell(event: str, **fields: object) -> None:
    sys.stdout.write(json.dumps({"event": event, "time_ms": time.time_ns() // 1_000_000, **fields}) + "\n")
    sys.stdout.flush()


class Handler:
    async def on_assigned(self, partitions: frozenset[Partition]) -> None:
        tell("assigned", partitions=[each.number for each in partitions])

    async def on_revoked(self, partitions: frozenset[Partition]) -> None:
        tell("revoked", partitions=[each.number for each in partitions])

    async def handle(self, record: Record) -> None:
        todo = json.loads(record.value or b"{}")
        at = [record.partition, record.offset]
        tell("started", at=at)
        if todo.get("kill"):
            os.kill(os.getpid(), signal.SIGKILL)
        await asyncio.sleep(todo.get("sleep_ms", 0) / 1000)
        tell("handled", at=at, written_ms=record.timestamp_ms)

    async def on_poison(self, record: Record, attempts: int) -> None:
        tell("condemned", at=[record.partition, record.offset], attempts=attempts)


async def main() -> None:
    settings = ServiceSettings()
    configure_logging(settings)
    handler = Handler()
    consumer = PartitionConsumer(
        settings,
        group="callback",
        topics=[Topic.RESULTS],
        handler=handler,
        probation=Probation(on_poison=handler.on_poison) if "--probation" in sys.argv else None,
    )
    loop = asyncio.get_running_loop()
    running = asyncio.create_task(consumer.run())
    loop.add_signal_handler(signal.SIGTERM, lambda: loop.create_task(consumer.stop()))
    while not consumer.ready and not running.done():  # noqa: ASYNC110 - as its health check would
        await asyncio.sleep(0.01)
    tell("ready")
    await running
    tell("stopped")


if __name__ == "__main__":
    asyncio.run(main())
