"""A group member as a process of its own; what it does is in the records, what it did is on stdout.

A record's value is a JSON object: `sleep_ms` is slept; `kill` ends the process as a crash would, at once;
`queue_ms` is waited before a slot would take the record. With `--journal DIRECTORY` blamed records are
quarantined.
Every line on stdout is a JSON object with `event` and, for records, `at` (partition, offset) and `time_ms`.
"""

import asyncio
import json
import os
import signal
import sys
import time
from contextlib import nullcontext
from pathlib import Path

from shared.kafka.consumer import PartitionConsumer, Quarantine
from shared.kafka.records import Partition, Record
from shared.kafka.topics import Topic
from shared.observability.logs import configure_logging
from shared.settings import ServiceSettings


def tell(event: str, **fields: object) -> None:
    sys.stdout.write(json.dumps({"event": event, "time_ms": time.time_ns() // 1_000_000, **fields}) + "\n")
    sys.stdout.flush()


class Handler:
    def __init__(self, quarantine: Quarantine | None) -> None:
        self.quarantine = quarantine

    async def on_assigned(self, partitions: frozenset[Partition]) -> None:
        tell("assigned", partitions=[each.number for each in partitions])

    async def on_revoked(self, partitions: frozenset[Partition]) -> None:
        tell("revoked", partitions=[each.number for each in partitions])

    async def handle(self, record: Record) -> None:
        todo = json.loads(record.value or b"{}")
        at = [record.partition, record.offset]
        await asyncio.sleep(todo.get("queue_ms", 0) / 1000)
        async with self.quarantine.hold(record) if self.quarantine is not None else nullcontext():
            tell("started", at=at)
            if todo.get("kill"):
                os.kill(os.getpid(), signal.SIGKILL)
            await asyncio.sleep(todo.get("sleep_ms", 0) / 1000)
        tell("handled", at=at, written_ms=record.timestamp_ms)

    async def on_poison(self, record: Record, attempts: int) -> None:
        tell("poison", at=[record.partition, record.offset], attempts=attempts)


async def main() -> None:
    settings = ServiceSettings()
    configure_logging(settings)
    at = sys.argv.index("--journal") + 1 if "--journal" in sys.argv else None
    quarantine = Quarantine(Path(sys.argv[at])) if at is not None else None
    handler = Handler(quarantine)
    consumer = PartitionConsumer(
        settings,
        group="callback",
        topics=[Topic.RESULTS],
        handler=handler,
        quarantine=quarantine,
        on_poison=handler.on_poison,
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
