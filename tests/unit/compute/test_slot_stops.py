"""The limit of a task counts from its beginning: a slot that is stopped before it ends no request."""

import asyncio
import os
import signal
import time
from pathlib import Path
from typing import Final

import pytest

from services.compute import slot_client
from services.compute.slot import Slot, SlotStartError
from services.compute.slot_pool import SlotPool
from shared.domain.requests import FailureCode
from shared.domain.types import Mode
from tests.unit.compute.support import completed, failed, nap, pid_of, running_pool, task

LIMIT_MS: Final = 1_000


@pytest.mark.parametrize("bytes_", [0, 800_000])
async def test_a_slot_that_was_stopped_before_its_task_ends_no_request(pool: SlotPool, bytes_: int) -> None:
    async with pool.acquire(Mode.ASYNC, "hazard") as slot:
        os.kill(pid_of(slot), signal.SIGSTOP)
        with pytest.raises(SlotStartError, match="stopped before it began its task"):
            await slot.run(task("hazard", {"kind": "do_nothing", "note": "x" * bytes_}, timeout_ms=300))
    assert completed(await nap(pool, 0, 7)) == {"value": 7}


async def test_the_limit_counts_from_the_end_of_a_stop_before_the_task(pool: SlotPool) -> None:
    async with pool.acquire(Mode.ASYNC, "nap") as slot:
        os.kill(pid_of(slot), signal.SIGSTOP)
        running = asyncio.create_task(slot.run(task("nap", {"ms": 700, "value": 7}, timeout_ms=LIMIT_MS)))
        await asyncio.sleep(0.6)
        os.kill(pid_of(slot), signal.SIGCONT)
        assert completed(await running) == {"value": 7}


async def test_a_stop_after_the_beginning_counts(pool: SlotPool) -> None:
    async with pool.acquire(Mode.ASYNC, "nap") as slot:
        running = asyncio.create_task(slot.run(task("nap", {"ms": 200}, timeout_ms=400)))
        await asyncio.sleep(0.1)
        os.kill(pid_of(slot), signal.SIGSTOP)
        assert failed(await running).failure.code is FailureCode.TIMEOUT


async def test_a_task_that_a_stopped_machine_took_late_has_its_whole_limit(pool: SlotPool) -> None:
    """Consumer and slot stop together, and the slot goes on first."""
    async with pool.acquire(Mode.ASYNC, "nap") as slot:
        os.kill(pid_of(slot), signal.SIGSTOP)
        running = asyncio.create_task(slot.run(task("nap", {"ms": 200, "value": 7}, timeout_ms=300)))
        await asyncio.sleep(0)
        time.sleep(0.6)  # noqa: ASYNC251 - the event loop must be stopped
        os.kill(pid_of(slot), signal.SIGCONT)
        _until_taken(slot)
        assert completed(await running) == {"value": 7}


def _until_taken(slot: Slot) -> None:
    give_up_at = time.monotonic() + 5
    while slot._has_unread():
        assert time.monotonic() < give_up_at
        time.sleep(0.001)


async def test_a_fork_that_was_stopped_before_its_task_ends_no_request(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(slot_client, "SERVER_MODULE", "tests.unit.compute.stopped_fork_server")
    monkeypatch.setenv("STOPPED_FORK", str(tmp_path / "stopped"))
    nothing = task("hazard_once", {"kind": "do_nothing"}, timeout_ms=300)
    async with running_pool(slots=1, spares=1) as pool:
        async with pool.acquire(Mode.ASYNC, "hazard_once") as slot:
            with pytest.raises(SlotStartError, match="stopped before it began its task"):
                await slot.run(nothing)
        assert (tmp_path / "stopped").exists()
        async with pool.acquire(Mode.ASYNC, "hazard_once") as slot:
            assert completed(await slot.run(nothing)) == {"value": 1}
