"""`consuma up` as a process, and what runs because of it."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx

from infra.local.leftovers import end_leftovers
from infra.local.parts import MARK
from tests.support.waiting import until

START_S = 100.0
ENVIRONMENT = {"CONSUMA_LISTEN_PORT": "0", "CONSUMA_KAFKA_PORT": "0", "CONSUMA_MYSQL_PORT": "0"}


class Up:
    """A running `consuma up`; its output is kept as it comes."""

    def __init__(self, data_dir: Path, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.said = ""
        self._data_dir = data_dir
        self._reading = asyncio.create_task(self._read())

    async def until_said(self, text: str) -> None:
        """Wait until it has said `text`; fail when it ends without."""
        await until(lambda: text in self.said or self._reading.done(), START_S)
        assert text in self.said, self.said

    async def until_ready(self) -> dict[str, Any]:
        """Wait for the ready line; what `endpoints.json` says."""
        await self.until_said("consuma is ready")
        return endpoints(self._data_dir)

    async def ended(self) -> int:
        """Wait for its end; the exit code."""
        async with asyncio.timeout(START_S):
            await self._reading
            return await self.process.wait()

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    async def _read(self) -> None:
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            self.said += line.decode()


@asynccontextmanager
async def up(data_dir: Path, *arguments: str, **environment: str) -> AsyncIterator[Up]:
    """Start it; at the end nothing of it runs, whatever has become of it."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        "from infra.cli.main import main; main()",
        "up",
        "--data-dir",
        str(data_dir),
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env={**os.environ, **ENVIRONMENT, **environment},
        start_new_session=True,
    )
    running = Up(data_dir, process)
    try:
        yield running
    finally:
        if process.returncode is None:
            process.kill()
        await running.ended()
        await asyncio.to_thread(end_leftovers, data_dir)


def endpoints(data_dir: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((data_dir / "endpoints.json").read_text())
    return found


def processes_of(data_dir: Path) -> list[int]:
    """Everything that bears the mark of `data_dir`."""
    mark = f"{MARK}={data_dir}".encode()
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if mark in (entry / "environ").read_bytes().split(b"\0"):
                    found.append(int(entry.name))
            except OSError:  # it has ended meanwhile
                continue
    return found


async def compute(api: str, seed: str) -> str:
    """A sync call that succeeds; the request's id."""
    answer = await _call(api, seed)
    assert answer.status_code == 200, answer.text
    assert answer.json()["status"] == "succeeded"
    return str(answer.json()["id"])


async def until_computed(api: str, seed: str) -> None:
    """Call until the answer is not that the log is away."""
    async with asyncio.timeout(START_S):
        while True:
            answer = await _call(api, seed)
            if answer.status_code != httpx.codes.SERVICE_UNAVAILABLE:
                break
            await asyncio.sleep(0.1)
    assert answer.status_code == 200, answer.text


async def _call(api: str, seed: str) -> httpx.Response:
    body = {"operation": "hash_chain", "input": {"seed": seed, "rounds": 3}}
    async with httpx.AsyncClient(base_url=api, timeout=40.0) as client:
        return await client.post("/v1/requests/sync", json=body)
