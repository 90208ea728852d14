"""What the benchmarks of callbacks share: a running system, its receiver, and submissions at a fixed rate."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

import aiohttp

from bench.figures import Latencies
from bench.system import own_system
from infra.local.system import System
from shared.settings import KafkaSettings
from shared.testing.receiver import ReceivedCall, Receiver
from shared.testing.receiver_behaviour import Behaviour

__all__ = [
    "COLUMNS",
    "FAILING",
    "LATE_S",
    "SECRET",
    "SOURCE",
    "WARM_UP_S",
    "Arrivals",
    "Bench",
    "delays_ms",
    "running",
    "submit_at_rate",
    "warm_up",
]

SECRET: Final = "whsec_" + "c2VjcmV0IG9mIHRoZSBjYWxsYmFjayBiZW5jaG1hcms="
COLUMNS: Final = ("callbacks", "p50", "p95", "p99", "max")
"""Of a row of delays."""

WARM_UP: Final = 200
WARM_UP_S: Final = 10.0
"""Before latencies are taken: the broker compiles its code in the first seconds of load."""

UNAVAILABLE: Final = 503
"""Where the broker acknowledges too late: the machine is busy with others."""

QUIET_S: Final = 120.0
SOURCE: Final = "bench"
LATE_S: Final = 1.0
FAILING: Final = Behaviour(status=503)


@dataclass
class Arrivals:
    """When callbacks came, by webhook id: the first time, and how often."""

    first_s: dict[str, float] = field(default_factory=dict)
    count: dict[str, int] = field(default_factory=dict)

    def note(self, call: ReceivedCall) -> None:
        """A call has arrived."""
        if call.accepted:
            self.first_s.setdefault(call.webhook_id, time.perf_counter())
            self.count[call.webhook_id] = self.count.get(call.webhook_id, 0) + 1

    async def wait_for(self, ids: set[str], quiet_s: float = QUIET_S) -> set[str]:
        """Wait until all `ids` have been called; returns those that have not been in time."""
        give_up_at = time.monotonic() + quiet_s
        while (missing := ids - self.first_s.keys()) and time.monotonic() < give_up_at:  # noqa: ASYNC110
            await asyncio.sleep(0.1)
        return missing

    def repeated(self, ids: set[str]) -> int:
        """How many of `ids` came more than once."""
        return sum(self.count.get(each, 0) > 1 for each in ids)


@dataclass
class Bench:
    """A running system and what its receiver has seen."""

    system: System
    log: KafkaSettings
    receiver: Receiver
    arrivals: Arrivals


@asynccontextmanager
async def running() -> AsyncIterator[Bench]:
    """Everything, with topics of its own."""
    arrivals = Arrivals()
    async with (
        Receiver(secrets=[SECRET], on_call=arrivals.note) as receiver,
        own_system(environment={"CONSUMA_WEBHOOK_SECRETS": SECRET}) as (system, log),
    ):
        yield Bench(system, log, receiver, arrivals)


async def submit_at_rate(bench: Bench, rate: float, count: int, url: str = "") -> dict[str, float]:
    """When each request's 202 came, by id. Submissions start on time, whatever earlier ones do."""
    accepted: dict[str, float] = {}
    unknown: list[float] = []
    callback_url = url or bench.receiver.url()
    body = {"operation": "hash_chain", "input": {"seed": "s"}, "callback_url": callback_url}
    async with (
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session,
        asyncio.TaskGroup() as tasks,
    ):

        async def submit() -> None:
            async with session.post(f"{bench.system.api}/v1/requests/async", json=body) as response:
                answer = await response.json()
                if response.status == UNAVAILABLE:
                    unknown.append(time.perf_counter())
                    return
                if response.status != 202:
                    raise SystemExit(f"a submission was answered {response.status}: {answer}")
                accepted[answer["id"]] = time.perf_counter()

        start = time.perf_counter()
        for number in range(count):
            await asyncio.sleep(max(0.0, start + number / rate - time.perf_counter()))
            tasks.create_task(submit())
    if unknown:
        print(f"{len(unknown)} submissions of {count} were answered 503, and are not counted")
    return accepted


async def warm_up(bench: Bench, rate: float, count: int = WARM_UP) -> None:
    """Submit `count` requests and wait for their callbacks, which are not measured."""
    await bench.arrivals.wait_for(set(await submit_at_rate(bench, rate, count)))


def delays_ms(bench: Bench, accepted: dict[str, float], missing: set[str]) -> Latencies:
    """From each 202 to the callback's arrival."""
    first_s = bench.arrivals.first_s
    return Latencies((first_s[each] - at_s) * 1000 for each, at_s in accepted.items() if each not in missing)
