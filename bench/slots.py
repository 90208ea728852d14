"""A one-worker ProcessPoolExecutor beside consuma's slot: python -m bench.slots.

Round trip of a trivial operation with a 300-byte input; throughput of two workers; what survives a crash with
20 neighbours in flight; when a task that spins is really gone. The slots are measured with an operation that
is reusable and with one that has a process for each task. All run in this process, in turn.
"""

import argparse
import asyncio
import ctypes
import json
import logging
import multiprocessing
import os
import sys
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Final, TypeVar

import structlog

from bench.figures import Latencies, print_table
from services.compute.slot import Task
from services.compute.slot_outcome import Completed
from services.compute.slot_pool import SlotPool, SlotPoolSettings
from shared.domain.types import Mode
from shared.operations.registry import load_registry
from shared.operations.results import encode_result

HAZARDS: Final = Path(__file__).parents[1] / "tests" / "support" / "hazards"
ONCE: Final = json.dumps({"kind": "do_nothing", "note": "s" * 270}).encode()
"""For an operation that does as little and is not reusable."""

INPUT: Final = json.dumps({"seed": "s" * 270, "rounds": 1}).encode()
NEIGHBOURS: Final = 20
WORKERS: Final = 2
LIMIT_S: Final = 1.0

Call = Callable[[], Awaitable[object]]
T = TypeVar("T")


def compute(operation: str, data: bytes) -> bytes:
    """What a worker of the executor does: the same validation, run and encoding as in a slot."""
    found = load_registry().get(operation)
    result = found.run(load_registry().parse(operation, data))
    return encode_result(result, found.limits.max_result_bytes)


def crash() -> None:
    """Die of SIGSEGV."""
    ctypes.string_at(0)


def nap(seconds: float) -> float:
    """A neighbour."""
    time.sleep(seconds)
    return seconds


async def round_trips(call: Call, count: int) -> Latencies:
    """One call after the other."""
    for _ in range(200):
        await call()
    found = Latencies()
    for _ in range(count):
        began = time.perf_counter()
        await call()
        found.extend([(time.perf_counter() - began) * 1000])
    return found


async def throughput(call: Call, count: int) -> float:
    """Calls a second with as many in flight as keep both workers busy."""
    left = iter(range(count))

    async def work() -> None:
        for _ in left:
            await call()

    began = time.perf_counter()
    await asyncio.gather(*(work() for _ in range(WORKERS * 4)))
    return count / (time.perf_counter() - began)


class Executors:
    """One-worker executors, one task at a time in each, replaced when their worker dies."""

    def __init__(self) -> None:
        self._free: asyncio.Queue[ProcessPoolExecutor] = asyncio.Queue()
        for _ in range(WORKERS):
            self._free.put_nowait(_new_executor())

    async def run(self, function: Callable[..., T], *arguments: object) -> T:
        """Run in the next free executor."""
        executor = await self._free.get()
        try:
            return await asyncio.get_running_loop().run_in_executor(executor, function, *arguments)
        except BrokenProcessPool:
            executor.shutdown(wait=False)
            executor = _new_executor()
            raise
        finally:
            self._free.put_nowait(executor)

    def close(self) -> None:
        """End all workers."""
        while not self._free.empty():
            self._free.get_nowait().shutdown()


def _new_executor() -> ProcessPoolExecutor:
    return ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("forkserver"))


async def bench_executors(calls: int) -> list[str]:
    """The row of the standard library."""
    pool = Executors()
    try:
        measured = await calls_of(lambda: pool.run(compute, "hash_chain", INPUT), calls)
        survivors, recovery_ms = await executor_survivors(pool)
    finally:
        pool.close()
    return ["one-worker executors", *measured, survivors, f"{recovery_ms:.1f}", "not by itself"]


async def executor_survivors(pool: Executors) -> tuple[str, float]:
    """Neighbours that get a result although one task crashes; ms until two tasks at once have run again."""
    before, after = ([pool.run(nap, 0.05) for _ in range(NEIGHBOURS // 2)] for _ in range(2))
    done = await asyncio.gather(*before, pool.run(crash), *after, return_exceptions=True)
    survivors = sum(isinstance(each, float) for each in done)
    await asyncio.gather(pool.run(crash), return_exceptions=True)
    began = time.perf_counter()
    await asyncio.gather(*(pool.run(nap, 0) for _ in range(WORKERS)))
    return f"{survivors}/{NEIGHBOURS}", (time.perf_counter() - began) * 1000


async def bench_slots(calls: int) -> list[list[str]]:
    """The rows of consuma's slots."""
    pool = SlotPool(SlotPoolSettings(slots=WORKERS, spares=1))
    await pool.start()
    try:
        kept = await calls_of(lambda: run(pool, "hash_chain", INPUT), calls)
        survivors, recovery_ms = await slot_survivors(pool)
        killed_s = await kill_time(pool)
        once = await calls_of(lambda: run(pool, "hazard_once", ONCE), calls // 10)
    finally:
        await pool.stop()
    late_ms = (killed_s - LIMIT_S) * 1000
    rest = [survivors, f"{recovery_ms:.1f}", f"limit + {late_ms:.0f} ms"]
    return [["slots, reusable operation", *kept, *rest], ["slots, a process a task", *once, "", "", ""]]


async def calls_of(call: Call, calls: int) -> list[str]:
    """Latencies and throughput."""
    latencies = await round_trips(call, calls)
    return [*latencies.row()[1:4], f"{await throughput(call, calls):,.0f}"]


async def run(pool: SlotPool, operation: str, data: bytes, timeout_ms: int = 60_000) -> object:
    """One task."""
    async with pool.acquire(Mode.ASYNC, operation) as slot:
        return await slot.run(Task(operation=operation, input=data, timeout_ms=timeout_ms, key="bench"))


async def slot_survivors(pool: SlotPool) -> tuple[str, float]:
    """The same for slots."""
    before, after = (
        [run(pool, "nap", b'{"ms": 50, "value": 1}') for _ in range(NEIGHBOURS // 2)] for _ in range(2)
    )
    crashed = run(pool, "hazard", b'{"kind": "segfault"}')
    done = await asyncio.gather(*before, crashed, *after)
    survivors = sum(isinstance(each, Completed) for each in done)
    await run(pool, "hazard", b'{"kind": "segfault"}')
    began = time.perf_counter()
    await asyncio.gather(*(run(pool, "nap", b"{}") for _ in range(WORKERS)))
    return f"{survivors}/{NEIGHBOURS}", (time.perf_counter() - began) * 1000


async def kill_time(pool: SlotPool) -> float:
    """Seconds until a task that spins is over."""
    began = time.perf_counter()
    await run(pool, "hazard", b'{"kind": "spin"}', timeout_ms=int(LIMIT_S * 1000))
    return time.perf_counter() - began


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--calls", type=int, default=3_000)
    options = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    os.environ["PYTHONPATH"] = str(HAZARDS)  # the slots' server finds the hazards there
    print(f"Python {sys.version.split()[0]}, {os.cpu_count()} cores, {options.calls:,} calls each")
    rows = [asyncio.run(bench_executors(options.calls)), *asyncio.run(bench_slots(options.calls))]
    head = (
        "",
        "p50 ms",
        "p95 ms",
        "p99 ms",
        f"calls/s, {WORKERS} workers",
        "survive a segfault",
        "whole again, ms",
        "ends a task that spins",
    )
    print_table(head, rows)


if __name__ == "__main__":
    main()
