"""`consuma up` with a broker and a database of its own: started, killed, told to stop, refused."""

import asyncio
import os
import signal
import socket
import sys
from pathlib import Path

import httpx
import pytest

from infra.local.parts import MARK
from tests.integration.local.support import compute, endpoints, processes_of, until_computed, up
from tests.support.waiting import until

pytestmark = [pytest.mark.kafka, pytest.mark.mysql, pytest.mark.slow, pytest.mark.timeout(300)]

AWAY_S = 20.0
"""The database and the broker may close their files after their supervisor's death."""


async def test_a_killed_one_leaves_nothing_running_and_its_state_is_there_again(tmp_path: Path) -> None:
    async with up(tmp_path) as first:
        found = await first.until_ready()
        request = await compute(found["api"], "before")
        assert set(found["pids"]) == {
            "ingest-0",
            *(f"compute-{n}" for n in range(4)),
            "callback-0",
            "projector-0",
        }
        assert set(found["pids"].values()) <= set(processes_of(tmp_path))
        first.signal(signal.SIGKILL)
        await first.ended()
        await until(lambda: not processes_of(tmp_path), AWAY_S)
    async with up(tmp_path) as second:
        found = await second.until_ready()
        async with httpx.AsyncClient(base_url=found["api"], timeout=10.0) as client:
            answer = await client.get(f"/v1/requests/{request}")
            assert answer.json()["status"] == "succeeded"
        await compute(found["api"], "after")
        second.signal(signal.SIGTERM)
        assert await second.ended() == 0
        assert processes_of(tmp_path) == []
        assert not (tmp_path / "endpoints.json").exists()


async def test_a_dead_broker_and_database_are_started_again(tmp_path: Path) -> None:
    async with up(tmp_path) as running:
        found = await running.until_ready()
        for pid in processes_of(tmp_path):
            if _runs(pid, b"mariadbd") or _runs(pid, b"kafka.Kafka"):
                os.kill(pid, signal.SIGKILL)
        await running.until_said("mariadb was killed by SIGKILL")
        await running.until_said("kafka was killed by SIGKILL")
        await until_computed(found["api"], "whole again")
        assert endpoints(tmp_path)["pids"] == found["pids"], "no service had to be restarted"


async def test_one_told_to_stop_half_way_leaves_nothing(tmp_path: Path) -> None:
    async with up(tmp_path) as running:
        await running.until_said("serves on")
        assert processes_of(tmp_path)
        running.signal(signal.SIGINT)
        assert await running.ended() == 0
        assert processes_of(tmp_path) == []


async def test_what_an_earlier_one_has_left_is_ended_first(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "import time; time.sleep(600)"]
    leftover = await asyncio.create_subprocess_exec(*command, env={**os.environ, MARK: str(tmp_path)})
    try:
        await until(lambda: bool(processes_of(tmp_path)))
        async with up(tmp_path) as running:
            await running.until_said("ended 1 processes that an earlier run")
            assert await leftover.wait() == -signal.SIGTERM
    finally:
        if leftover.returncode is None:
            leftover.kill()
            await leftover.wait()


async def test_a_second_one_on_the_same_directory_is_refused(tmp_path: Path) -> None:
    async with up(tmp_path) as running:
        await running.until_said("serves on")
        async with up(tmp_path) as refused:
            assert await refused.ended() == 1
            assert f"consuma already runs on {tmp_path} (pid {running.process.pid})" in refused.said
            assert running.process.returncode is None


@pytest.mark.parametrize("option", ["--port", "--kafka-port", "--mysql-port"])
async def test_a_taken_port_is_told_before_anything_starts(tmp_path: Path, option: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        async with up(tmp_path, option, str(port)) as running:
            assert await running.ended() == 1
            assert f"port {port}" in running.said
            assert option in running.said
            assert not (tmp_path / "kafka").exists()


def _runs(pid: int, name: bytes) -> bool:
    try:
        return name in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False
