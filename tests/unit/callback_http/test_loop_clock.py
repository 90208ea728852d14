"""Time in which the event loop did not run does not count, and lateness is told."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest

from services.callback.loop_clock import STALL_S, LoopClock


@asynccontextmanager
async def ticking() -> AsyncIterator[LoopClock]:
    clock = LoopClock()
    task = asyncio.create_task(clock.run())
    await asyncio.sleep(0)
    try:
        yield clock
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def test_a_stall_counts_as_no_more_than_its_bound() -> None:
    async with ticking() as clock:
        began_s, real_s = clock.now_s(), time.monotonic()
        time.sleep(STALL_S + 1.0)  # noqa: ASYNC251 - the loop stands still
        assert clock.now_s() - began_s == pytest.approx(STALL_S, abs=0.05)
        await asyncio.sleep(0.3)
        lost_s = (time.monotonic() - real_s) - (clock.now_s() - began_s)
        assert lost_s >= 0.95, "and stays lost"


async def test_it_is_the_monotonic_clock_before_and_after_it_runs() -> None:
    clock = LoopClock()
    assert clock.now_s() == pytest.approx(time.monotonic(), abs=0.01)
    async with ticking() as clock:
        pass
    before_s, real_s = clock.now_s(), time.monotonic()
    time.sleep(STALL_S + 0.2)  # noqa: ASYNC251 - nobody ticks
    assert clock.now_s() - before_s == pytest.approx(time.monotonic() - real_s, abs=0.01)
