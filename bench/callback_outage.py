"""What a receiver that is dead, or ports that hang, cost everybody else, and how long its return takes."""

import argparse
import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Final

from aiokafka import AIOKafkaConsumer, TopicPartition

from bench.callback_load import (
    COLUMNS,
    SECRET,
    Arrivals,
    Bench,
    delays_ms,
    running,
    submit_at_rate,
    warm_up,
)
from bench.figures import print_table
from shared.kafka.topics import RETRY_TIERS, Topic, topic_name
from shared.testing.receiver import Receiver

__all__ = ["outage", "ports"]

LOOK_S: Final = 5.0
PORTS: Final = 64
DRAIN_S: Final = 120.0
DRAIN_RATE: Final = 500.0
"""All are to be delivered within the former and the backlog at the latter of the receiver's return."""


@dataclass
class Appends:
    """Records of the tiers and of the dead letters, as the log grows."""

    tiers: list[tuple[float, int]] = field(default_factory=list)
    letters: int = 0

    def rows(self, pieces: int = 12) -> list[tuple[str, str]]:
        """Appends a second to all tiers, over time."""
        step = max(1, (len(self.tiers) - 1) // pieces)
        marks = self.tiers[::step]
        return [
            (f"{before:.0f}-{after:.0f} s", f"{(count - earlier) / (after - before):.0f}")
            for (before, earlier), (after, count) in pairwise(marks)
        ]


@asynccontextmanager
async def watching(bench: Bench) -> AsyncIterator[Appends]:
    """Look at the ends of the tiers while entered."""
    client = AIOKafkaConsumer(bootstrap_servers=bench.log.kafka)
    await client.start()
    found, begun = Appends(), time.monotonic()

    async def count(topics: tuple[Topic, ...]) -> int:
        names = [topic_name(bench.log, topic) for topic in topics]
        places = [TopicPartition(name, number) for name in names for number in range(bench.log.partitions)]
        return sum((await client.end_offsets(places)).values())

    async def look() -> None:
        while True:
            found.tiers.append((time.monotonic() - begun, await count(RETRY_TIERS)))
            await asyncio.sleep(LOOK_S)

    task = asyncio.create_task(look())
    try:
        yield found
    finally:
        task.cancel()
        await asyncio.wait([task])
        found.letters = await count((Topic.CALLBACKS_DLQ,))
        await client.stop()


async def outage(options: argparse.Namespace) -> None:
    """A receiver that is dead for `--outage` seconds of load, and a healthy one all the time."""
    rate, other_rate = options.rate, options.other_rate or options.rate
    backlog = other_rate * options.outage
    arrivals = Arrivals()
    async with running() as bench, AsyncExitStack() as stack:
        await warm_up(bench, rate)
        alone = await submit_at_rate(bench, rate, int(rate * options.seconds))
        rows = [("alone", *delays_ms(bench, alone, await bench.arrivals.wait_for(set(alone))).row())]
        async with Receiver() as receiver:
            url, port = receiver.url(), receiver.port
        before = _disk(bench.system.data_dir)
        async with watching(bench) as appends:
            submitting = asyncio.create_task(submit_at_rate(bench, other_rate, int(backlog), url))
            beside = await submit_at_rate(bench, rate, int(rate * options.outage))
            missing = await bench.arrivals.wait_for(set(beside))
            rows.append(("beside a dead one", *delays_ms(bench, beside, missing).row()))
            ids = set(await submitting)
            grown = _disk(bench.system.data_dir) - before
            returned = time.perf_counter()
            await stack.enter_async_context(Receiver(secrets=[SECRET], port=port, on_call=arrivals.note))
            lost = await arrivals.wait_for(ids, 10 * (DRAIN_S + backlog / DRAIN_RATE))
    took_s = max(arrivals.first_s.values(), default=returned) - returned
    print_table(("202 to callback, ms", *COLUMNS), rows)
    print_table(("since the receiver died", "appends/s to tiers"), appends.rows())
    print(
        f"{len(ids)} for the dead one: all delivered {took_s:.1f} s after its return "
        f"(bound {DRAIN_S + backlog / DRAIN_RATE:.0f} s); {len(lost)} missing, {arrivals.repeated(ids)} "
        f"repeated, {appends.letters} dead letters; missing of the healthy one {len(missing)}; the data "
        f"directory grew by {grown / 2**20:.0f} MiB"
    )


async def ports(options: argparse.Namespace) -> None:
    """A healthy receiver beside many ports that hang, all of the same submitter."""
    rate, rows = options.rate, []
    other_rate = options.other_rate or 10.0
    async with running() as bench, AsyncExitStack() as stack:
        hanging = [await stack.enter_async_context(Receiver()) for _ in range(PORTS)]
        await warm_up(bench, rate)
        for name in ("alone", f"beside {PORTS} ports that hang", "alone again"):
            crowd = [
                asyncio.create_task(
                    submit_at_rate(
                        bench,
                        other_rate / PORTS,
                        int(other_rate / PORTS * options.seconds) + 1,
                        each.url(do="hang"),
                    )
                )
                for each in (hanging if "hang" in name else [])
            ]
            accepted = await submit_at_rate(bench, rate, int(rate * options.seconds))
            missing = await bench.arrivals.wait_for(set(accepted))
            rows.append((name, *delays_ms(bench, accepted, missing).row(), f"{len(missing)}"))
            await asyncio.gather(*crowd)
    print_table((f"202 to callback at {rate:g}/s beside {other_rate:g}/s, ms", *COLUMNS, "missing"), rows)


def _disk(directory: Path) -> int:
    """Bytes of all files below `directory`."""
    sizes = 0
    for path in directory.rglob("*"):
        try:
            sizes += path.stat().st_blocks * 512
        except FileNotFoundError:
            continue
    return sizes
