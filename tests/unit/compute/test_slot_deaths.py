"""Whoever is stopped or killed from outside, no result is untrue and no process is left."""

import asyncio
import os
import resource
import signal
import subprocess
import threading
import time
from pathlib import Path
from typing import Final

import pytest

from services.compute import slot_client
from services.compute import slot_tree as tree
from services.compute.slot import SlotServerError, SlotStartError
from services.compute.slot_client import _kill_server
from services.compute.slot_pool import SlotPool
from shared.domain.requests import FailureCode
from shared.domain.types import Mode
from tests.support.waiting import until
from tests.unit.compute.support import (
    completed,
    descendants,
    failed,
    gone,
    hazard,
    lone_consumer,
    nap,
    noted_pids,
    pid_of,
    run,
    running_pool,
    server_of,
    task,
    task_of,
    told_by,
)

LIMIT_MS: Final = 2_000
STOP_S: Final = 2.5


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
@pytest.mark.parametrize("kind", ["nap_300_ms", "nap_300_ms_and_return_two_mib"])
async def test_a_result_that_came_while_the_consumer_was_stopped_counts(
    loop: str, kind: str, tmp_path: Path
) -> None:
    async with lone_consumer(kind, tmp_path / "note", loop, LIMIT_MS) as process:
        process.send_signal(signal.SIGSTOP)
        await asyncio.sleep(STOP_S)
        process.send_signal(signal.SIGCONT)
        assert await told_by(process) == "completed"


async def test_the_limit_holds_while_the_consumer_is_stopped(tmp_path: Path) -> None:
    note = tmp_path / "note"
    async with lone_consumer("note_itself_and_spin", note, limit_ms=LIMIT_MS) as process:
        await until(lambda: note.exists() and bool(noted_pids(note)))
        process.send_signal(signal.SIGSTOP)
        await until(lambda: gone(noted_pids(note)), timeout_s=STOP_S + 5)
        process.send_signal(signal.SIGCONT)
        assert "time limit of 2000 ms" in await told_by(process)


async def test_what_a_task_forked_dies_with_the_consumer_whose_server_died(tmp_path: Path) -> None:
    note = tmp_path / "note"
    async with lone_consumer("leave_children_and_kill_the_server", note) as process:
        assert await process.wait() == 1
        assert len(noted_pids(note)) == 2
        await until(lambda: gone(noted_pids(note)))


async def test_a_stopped_server_does_not_outlive_its_consumer(tmp_path: Path) -> None:
    note = tmp_path / "note"
    async with lone_consumer("spin_with_a_daemon", note) as process:
        await until(lambda: note.exists() and bool(noted_pids(note)))
        below = tree.descendants(process.pid)
        (server,) = tree.children(process.pid)
        os.kill(server, signal.SIGSTOP)
        process.kill()
        await process.wait()
        await until(lambda: gone(below))


async def test_a_task_that_stops_its_own_process_ends_at_its_limit(pool: SlotPool) -> None:
    outcome = failed(await hazard(pool, "stall_the_channel", 500))
    assert outcome.failure.code is FailureCode.TIMEOUT
    assert 500 <= outcome.compute_ms < 1_000


@pytest.mark.parametrize("operation", ["hazard", "hazard_once"])
@pytest.mark.parametrize(("kind", "name"), [("segfault", "SIGSEGV"), ("kill_itself", "SIGKILL")])
async def test_a_crash_that_a_stopped_server_tells_late_is_no_timeout(
    kind: str, name: str, operation: str
) -> None:
    limit_ms = 1_000
    async with running_pool(slots=1, spares=0) as pool:
        os.kill(server_of(pool), signal.SIGSTOP)
        try:
            running = asyncio.create_task(run(pool, task(operation, {"kind": kind}, limit_ms)))
            await asyncio.wait({running}, timeout=limit_ms / 1000 + 0.5)
        finally:
            os.kill(server_of(pool), signal.SIGCONT)
        outcome = failed(await running)
    assert (outcome.failure.code, outcome.failure.signal) == (FailureCode.CRASHED, name)
    assert outcome.compute_ms < limit_ms


async def test_a_slot_that_was_granted_and_died_before_its_task_ends_no_request(pool: SlotPool) -> None:
    async with pool.acquire(Mode.ASYNC, "nap") as slot:
        os.kill(pid_of(slot), signal.SIGKILL)
        await slot.died
        with pytest.raises(SlotStartError, match="before it was handed its task"):
            await slot.run(task("nap", {}))
    assert completed(await nap(pool, 0, 7)) == {"value": 7}


async def test_an_idle_slot_that_died_ends_no_request() -> None:
    async with running_pool(slots=1, spares=1) as pool:
        for _ in range(20):
            async with pool.acquire(Mode.ASYNC, "nap") as slot:
                pass
            os.kill(pid_of(slot), signal.SIGKILL)
            try:
                assert completed(await nap(pool, 0, 7)) == {"value": 7}
            except SlotStartError:  # the kernel had not killed it yet when it was handed out
                assert completed(await nap(pool, 0, 8)) == {"value": 8}


async def test_a_slot_that_is_known_to_be_dead_is_not_handed_out() -> None:
    async with running_pool(slots=1, spares=1) as pool:
        async with pool.acquire(Mode.ASYNC, "nap") as slot:
            pass
        os.kill(pid_of(slot), signal.SIGKILL)
        while slot.is_alive():
            time.sleep(0.001)  # noqa: ASYNC251 - the event loop must not hear of the death
        assert completed(await nap(pool, 0, 7)) == {"value": 7}


async def test_slots_that_fail_at_their_start_are_tried_again_slowly_and_end_no_request() -> None:
    async with running_pool(slots=2, spares=1) as pool:
        server = server_of(pool)
        _, hard = resource.prlimit(server, resource.RLIMIT_SIGPENDING)
        resource.prlimit(server, resource.RLIMIT_SIGPENDING, (0, hard))  # no timers in new slots
        for pid in descendants(server):
            os.kill(pid, signal.SIGKILL)
        await until(lambda: not pool.ready)
        waiting = asyncio.create_task(nap(pool, 0, 7))
        began_s, first = time.monotonic(), next(pool._server._numbers)  # type: ignore[union-attr]
        await until(lambda: time.monotonic() > began_s + 1)
        assert next(pool._server._numbers) - first < 10  # type: ignore[union-attr]
        assert not pool.ready
        assert not waiting.done()
        resource.prlimit(server, resource.RLIMIT_SIGPENDING, (hard, hard))
        assert completed(await waiting) == {"value": 7}
        await until(lambda: len(pool._alive) == 3)


async def test_a_server_that_hangs_is_given_up_and_ends_no_request(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(slot_client, "PING_S", 0.2)
    threads: list[threading.Thread] = []

    def kill(server: subprocess.Popen[bytes]) -> None:
        threads.append(threading.current_thread())
        _kill_server(server)

    monkeypatch.setattr(slot_client, "_kill_server", kill)
    async with running_pool(slots=2, spares=0) as pool:
        watching = asyncio.create_task(pool.watch())
        server = server_of(pool)
        below = descendants(server)
        os.kill(server, signal.SIGSTOP)
        with pytest.raises(SlotServerError, match="has not answered for 1 s"):
            await run(pool, task_of("exit_with_3"))
        with pytest.raises(SlotServerError):
            await watching
        assert not pool.ready
        await until(lambda: gone({server, *below}))
    assert len(threads) == 1
    assert threads[0] is not threading.current_thread(), "the event loop was stopped for that"


async def test_directories_of_any_depth_end_no_server() -> None:
    async with running_pool(slots=1, spares=0) as pool:
        assert completed(await hazard(pool, "nest_directories")) == {"value": 1}
        assert completed(await nap(pool, 0, 7)) == {"value": 7}


async def test_the_loss_of_a_server_is_told_whatever_it_leaves() -> None:
    async with running_pool(slots=1, spares=0) as pool:
        assert pool._server is not None
        directory = pool._server._directory.path
        with pytest.raises(SlotServerError):
            await hazard(pool, "nest_directories_and_kill_the_server")
        with pytest.raises(SlotServerError):
            await pool.watch()
    with pytest.raises(FileNotFoundError):
        os.stat(directory)


async def test_a_task_that_the_system_refuses_a_start_is_not_started() -> None:
    async with running_pool(slots=1, spares=0) as pool, pool.acquire(Mode.ASYNC, "hazard_once") as slot:
        nothing = task("hazard_once", {"kind": "do_nothing"})
        _, hard = resource.prlimit(pid_of(slot), resource.RLIMIT_NOFILE)
        resource.prlimit(pid_of(slot), resource.RLIMIT_NOFILE, (3, hard))
        for _ in range(2):
            with pytest.raises(SlotStartError, match="open files"):
                await slot.run(nothing)
        resource.prlimit(pid_of(slot), resource.RLIMIT_NOFILE, (hard, hard))
        assert completed(await slot.run(nothing)) == {"value": 1}


@pytest.mark.parametrize("operation", ["hazard", "hazard_once"])
async def test_a_signal_to_all_processes_ends_no_task(pool: SlotPool, operation: str) -> None:
    running = asyncio.create_task(run(pool, task(operation, {"kind": "nap_300_ms"})))
    for _ in range(50):
        for pid in descendants():
            os.kill(pid, signal.SIGTERM)
        await asyncio.sleep(0.005)
    assert completed(await running) == {"value": 1}


async def test_a_server_is_not_blamed_for_a_stop_of_its_consumer(
    monkeypatch: pytest.MonkeyPatch, pool: SlotPool
) -> None:
    monkeypatch.setattr(slot_client, "PING_S", 0.05)
    assert completed(await nap(pool, 0, 1)) == {"value": 1}
    for _ in range(3):
        time.sleep(1)  # noqa: ASYNC251 - a loop that is stopped for longer than all pings
        assert completed(await nap(pool, 0, 2)) == {"value": 2}


async def test_what_cannot_be_killed_delays_one_death_and_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(slot_client, "SERVER_MODULE", "tests.unit.compute.powerless_server")
    note = tmp_path / "pids"
    try:
        async with running_pool(slots=1, spares=0) as pool:
            await hazard(pool, "crash_with_a_daemon", note=str(note))
            assert not gone(noted_pids(note))
            assert "slot.descendants_left" in capsys.readouterr().out
            began_s = time.monotonic()
            for _ in range(8):
                failed(await hazard(pool, "exit_with_3"))
            assert time.monotonic() - began_s < 7
    finally:
        for pid in noted_pids(note):
            os.kill(pid, signal.SIGKILL)
