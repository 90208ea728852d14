"""How late retries are, and how much memory waiting takes: `python bench/retry_tiers.py`.

A tier of one hour holds N deliveries which come due at a steady rate, beside a tier of one second that is in
use. The service runs in this process with a receiver that costs nothing, so that what is measured is the
waiting. Needs a broker; every topic is deleted at the end.
"""

import argparse
import asyncio
import os
import secrets
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext

import psutil
import uvloop
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient

from services.callback.app import CallbackService
from services.callback.delay_queue import wall_clock_ms
from services.callback.ports import Dispatch, WaitsFor, Where
from services.callback.settings import CallbackSettings
from shared.domain.callbacks import Delivery, SuccessfulAttempt
from shared.domain.types import JsonText, Mode, RequestId
from shared.events.codec import Origin, encode
from shared.kafka import topics_admin
from shared.kafka.topics import TIER_DELAY_MS, Topic, topic_name
from shared.observability.logs import configure_logging
from shared.service import calm_collector

BODY = JsonText('{"result":"' + "x" * 1_000 + '"}')
LEAD_MS = 25_000
"""From the append of the last record to when the first is due."""


class Taker:
    """A destination that takes everything at once and notes how late it was asked."""

    ready = True

    def __init__(self) -> None:
        self.late_ms: dict[str, list[int]] = {"long": [], "short": []}

    async def start(self) -> None:
        """Nothing to open."""

    async def stop(self) -> None:
        """Nothing to close."""

    async def run(self) -> None:
        """Nothing to follow."""

    def release(self) -> None:
        """Nobody waits."""

    def parked(self, waits_for: WaitsFor, wake: Callable[[], None]) -> AbstractContextManager[None]:
        """Nobody is deferred."""
        return nullcontext()

    async def dispatch(self, delivery: Delivery, where: Where) -> Dispatch:
        """Take it."""
        now_ms = wall_clock_ms()
        self.late_ms[delivery.source].append(now_ms - delivery.not_before_ms)
        return Dispatch(SuccessfulAttempt(status=200, at_ms=now_ms, duration_ms=0.1))


def delivery(number: int, kind: str, not_before_ms: int) -> Delivery:
    """One that waits."""
    request_id = RequestId(f"00000000-0000-4000-8000-{number:012d}")
    return Delivery(
        request_id=request_id,
        mode=Mode.ASYNC,
        source=kind,
        operation="bench",
        accepted_at_ms=not_before_ms,
        url="http://127.0.0.1:9/",
        webhook_id=request_id,
        body=BODY,
        origin="bench-0-0",
        attempt=2,
        not_before_ms=not_before_ms,
    )


async def append(
    producer: AIOKafkaProducer, topic: str, deliveries: Iterator[Delivery], delay_ms: int
) -> None:
    """Append them as if that had been done a tier's delay before each is due."""
    waiting: list[asyncio.Future[object]] = []
    for each in deliveries:
        encoded = encode(each, Origin(event_id="e", source="/bench", now_ms=each.not_before_ms))
        waiting.append(
            await producer.send(
                topic,
                value=encoded.value,
                key=encoded.key,
                headers=list(encoded.headers),
                timestamp_ms=each.not_before_ms - delay_ms,
            )
        )
        if len(waiting) >= 1_000:
            await asyncio.gather(*waiting)
            waiting = []
    await asyncio.gather(*waiting)


def show(kind: str, late_ms: Sequence[int]) -> None:
    """One line of figures."""
    if len(late_ms) < 100:
        print(f"{kind}: only {len(late_ms)} fired")
        return
    cuts = statistics.quantiles(late_ms, n=1_000)
    print(
        f"{kind}: {len(late_ms)} fired; late p50 {cuts[499]:.0f}, p99 {cuts[989]:.0f}, "
        f"p99.9 {cuts[998]:.0f}, worst {max(late_ms)}, earliest {min(late_ms)} ms"
    )


async def measure(settings: CallbackSettings, waiting: int, rate: int, seconds: int) -> None:
    """Fill the tiers, run, print."""
    producer = AIOKafkaProducer(bootstrap_servers=settings.kafka, acks="all", linger_ms=5)
    await producer.start()
    first_due_ms = wall_clock_ms() + LEAD_MS + waiting // 10
    long, short = Topic.CALLBACKS_RETRY_1H, Topic.CALLBACKS_RETRY_1S
    dues = (first_due_ms + number * 1_000 // rate for number in range(waiting))
    deliveries = (delivery(number, "long", due_ms) for number, due_ms in enumerate(dues))
    await append(producer, topic_name(settings, long), deliveries, TIER_DELAY_MS[long])
    print(f"{waiting} deliveries of 1 kB wait; the first is due in {first_due_ms - wall_clock_ms()} ms")
    taker, stop = Taker(), asyncio.Event()
    service = CallbackService(settings, lambda *_: taker)
    running = asyncio.create_task(service.run(stop))
    memory = psutil.Process()
    before = memory.memory_info().rss
    number = waiting
    samples = []
    cpu_s = time.process_time()
    while wall_clock_ms() < first_due_ms + seconds * 1_000:
        now_ms = wall_clock_ms()
        some = (delivery(number + each, "short", now_ms + 1_000 + each) for each in range(50))
        await append(producer, topic_name(settings, short), some, 1_000)
        number += 50
        samples.append(memory.memory_info().rss)
        await asyncio.sleep(1.0)
    cpu_s = time.process_time() - cpu_s
    held = len(service.heap)
    stop.set()
    began = time.monotonic()
    await running
    await producer.stop()
    print(f"memory: {before >> 20} MiB before, {max(samples) >> 20} MiB at most, {samples[-1] >> 20} at last")
    print(f"{held} waited in memory at the end; the stop took {time.monotonic() - began:.2f} s")
    print(f"cpu: {cpu_s:.1f} s over {len(samples)} s")
    for kind, late_ms in taker.late_ms.items():
        show(kind, late_ms)


async def main() -> int:
    """Run with topics of its own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--waiting", type=int, default=100_000)
    parser.add_argument("--rate", type=int, default=500)
    parser.add_argument("--seconds", type=int, default=30)
    arguments = parser.parse_args()
    settings = CallbackSettings(
        kafka=os.environ.get("CONSUMA_KAFKA", "127.0.0.1:9092"),
        topic_prefix=f"bench-{secrets.token_hex(3)}.",
        instance="callback-0",
    )
    configure_logging(settings.model_copy(update={"log_level": "warning"}))
    calm_collector()
    await topics_admin.apply(settings)
    try:
        await measure(settings, arguments.waiting, arguments.rate, arguments.seconds)
    finally:
        admin = AIOKafkaAdminClient(bootstrap_servers=settings.kafka)
        await admin.start()
        own = [name for name in await admin.list_topics() if name.startswith(settings.topic_prefix)]
        await admin.delete_topics(own)
        await admin.close()
    return 0


if __name__ == "__main__":
    sys.exit(uvloop.run(main()))
