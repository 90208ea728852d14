"""Running hazards in slots."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import psutil

from services.compute.slot import Slot, Task
from services.compute.slot_outcome import Completed, Failed, TaskResult
from services.compute.slot_pool import SlotPool, SlotPoolSettings
from shared.domain.types import Mode

HAZARDS_PATH: Final = Path(__file__).parents[2] / "support" / "hazards"
AMPLE_MS: Final = 60_000


@asynccontextmanager
async def running_pool(**settings: Any) -> AsyncIterator[SlotPool]:  # noqa: ANN401 - as SlotPoolSettings
    pool = SlotPool(SlotPoolSettings(**settings))
    await pool.start()
    try:
        yield pool
    finally:
        await pool.stop()


def task(operation: str, data: dict[str, object], timeout_ms: int = AMPLE_MS) -> Task:
    return Task(operation=operation, input=json.dumps(data).encode(), timeout_ms=timeout_ms, key="a-request")


def task_of(kind: str, note: Path | str = "", timeout_ms: int = AMPLE_MS) -> Task:
    return task("hazard", {"kind": kind, "note": str(note)}, timeout_ms)


async def run(pool: SlotPool, what: Task, mode: Mode = Mode.ASYNC) -> TaskResult:
    async with pool.acquire(mode, what.operation) as slot:
        return await slot.run(what)


async def hazard(pool: SlotPool, kind: str, timeout_ms: int = AMPLE_MS, note: str = "") -> TaskResult:
    return await run(pool, task_of(kind, note, timeout_ms))


async def nap(pool: SlotPool, ms: int, value: int = 0) -> TaskResult:
    return await run(pool, task("nap", {"ms": ms, "value": value}))


def completed(outcome: TaskResult) -> Any:  # noqa: ANN401 - whatever the operation returned
    assert isinstance(outcome, Completed), outcome
    return json.loads(outcome.result)


def failed(outcome: TaskResult) -> Failed:
    assert isinstance(outcome, Failed), outcome
    return outcome


def noted_pids(note: Path) -> set[int]:
    return {int(line) for line in note.read_text().split()}


def gone(pids: set[int]) -> bool:
    """Whether none of the processes is alive; a zombie is not."""
    return not any(_alive(pid) for pid in pids)


def _alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def descendants(pid: int | None = None) -> set[int]:
    """Every process below this one, or below `pid`."""
    return {child.pid for child in psutil.Process(pid).children(recursive=True)}


async def neighbours(pool: SlotPool, count: int, ms: int) -> list[TaskResult]:
    return list(await asyncio.gather(*(nap(pool, ms, value) for value in range(count))))


def pid_of(slot: Slot) -> int:
    assert slot.pid is not None
    return slot.pid


def server_of(pool: SlotPool) -> int:
    assert pool._server is not None
    assert pool._server._process is not None
    return pool._server._process.pid


@asynccontextmanager
async def lone_consumer(
    kind: str, note: Path, loop: str = "uvloop", limit_ms: int = 60_000
) -> AsyncIterator[asyncio.subprocess.Process]:
    """A consumer of its own whose slot runs a task; killed at the end."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "tests.unit.compute.lone_consumer", loop, kind, str(note), str(limit_ms)),
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        assert await told_by(process) == "running"
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def told_by(process: asyncio.subprocess.Process) -> str:
    assert process.stdout is not None
    async with asyncio.timeout(30):
        return (await process.stdout.readline()).decode().strip()
