"""Keeping one process running."""

import asyncio
import itertools
import signal
from pathlib import Path

import pytest

from infra.local.errors import LocalError
from infra.local.keeper import WAIT_CAP_S, restart_waits
from tests.support.waiting import until
from tests.unit.local.support import SERVE, Memory, ScriptPart, exists, keeper_of, keeping

STUBBORN = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + SERVE.replace("; ", "\n")
FORKING = """
import os, pathlib, sys, time
flag = pathlib.Path(sys.argv[1])
if child := os.fork():
    flag.with_suffix(".pid").write_text(str(child))
    flag.touch()
time.sleep(600)
"""


def test_waits_grow_from_nothing_to_a_bound() -> None:
    waits = list(itertools.islice(restart_waits(), 30))
    assert waits[0] == 0
    assert all(0.1 <= wait <= WAIT_CAP_S for wait in waits[1:])
    assert waits[1] < waits[4] < waits[20]
    assert min(waits[10:]) >= WAIT_CAP_S / 2


async def test_a_killed_process_is_replaced_at_once_and_loudly(tmp_path: Path) -> None:
    part, reporter = ScriptPart(SERVE, tmp_path), Memory()
    async with keeping(part, reporter) as keeper:
        await keeper.until_working()
        first = keeper.pid
        keeper.signal(signal.SIGKILL)
        assert not keeper.works
        await keeper.until_working()
        assert keeper.restarts == 1
        assert keeper.pid not in (first, None)
    assert [each.split(" and ")[0] for each in reporter.warned] == ["script-0 was killed by SIGKILL"]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
async def test_a_process_that_was_told_to_end_does_not_work_until_its_successor_does(
    number: signal.Signals, tmp_path: Path
) -> None:
    async with keeping(ScriptPart(SERVE, tmp_path)) as keeper:
        assert not await keeper.answers()
        await keeper.until_working()
        assert await keeper.answers()
        keeper.signal(number)
        assert not await keeper.answers()
        await keeper.until_working()
        assert await keeper.answers()


async def test_a_process_that_works_no_more_does_not_answer(tmp_path: Path) -> None:
    part = ScriptPart(SERVE, tmp_path)
    async with keeping(part) as keeper:
        await keeper.until_working()
        part.flag.unlink()
        assert keeper.works
        assert not await keeper.answers()


async def test_each_start_has_its_own_address(tmp_path: Path) -> None:
    part = ScriptPart(SERVE, tmp_path)
    async with keeping(part) as keeper:
        await keeper.until_working()
        first = keeper.url
        keeper.signal(signal.SIGKILL)
        await keeper.until_working()
        assert keeper.url != first


async def test_who_waits_for_a_part_that_cannot_start_is_told_why(tmp_path: Path) -> None:
    async with keeping(ScriptPart("raise SystemExit('the error of my ways')", tmp_path)) as keeper:
        with pytest.raises(LocalError, match=r"died 3 times.*the error of my ways") as told:
            await keeper.until_working()
    assert str(tmp_path / "script-0.log") in str(told.value)


async def test_a_part_that_keeps_dying_is_restarted_ever_more_seldom(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("infra.local.keeper.restart_waits", lambda: itertools.chain([0.0, 0.0], [600.0]))
    part = ScriptPart("raise SystemExit(3)", tmp_path)
    reporter = Memory()
    async with keeping(part, reporter):
        await until(lambda: len(reporter.warned) == 3)
        assert "ended with exit code 3" in reporter.warned[0]
        assert "restarted in 600.0 s" in reporter.warned[2]
    assert part.launches == 3, "the end of the wait is not waited for when everything is to stop"


async def test_what_ignores_sigterm_is_killed_when_its_time_is_over(tmp_path: Path) -> None:
    part, reporter = ScriptPart(STUBBORN, tmp_path, stop_s=0.2), Memory()
    async with keeping(part, reporter) as keeper:
        await keeper.until_working()
        pid = keeper.pid
        assert pid is not None
    assert not exists(pid)
    assert reporter.warned == ["script-0 did not stop in time and was killed"]


async def test_haste_cuts_the_time_to_stop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("infra.local.keeper.HASTE_S", 0.1)
    part = ScriptPart(STUBBORN, tmp_path, stop_s=600.0)
    async with keeping(part) as keeper:
        await keeper.until_working()
        keeper.stop()
        keeper.hasten()


async def test_cancelled_it_leaves_no_process(tmp_path: Path) -> None:
    keeper = keeper_of(ScriptPart(STUBBORN, tmp_path))
    running = asyncio.create_task(keeper.run())
    await keeper.until_working()
    pid = keeper.pid
    assert pid is not None
    running.cancel()
    await asyncio.wait([running])
    assert running.cancelled()
    assert not exists(pid)


async def test_what_a_dead_process_leaves_in_its_group_is_ended_before_the_restart(tmp_path: Path) -> None:
    """The child of the first process would otherwise work beside the second."""
    part = ScriptPart(FORKING, tmp_path)
    async with keeping(part) as keeper:
        await keeper.until_working()
        orphan = int(part.flag.with_suffix(".pid").read_text())
        keeper.signal(signal.SIGKILL)
        await keeper.until_working()
        assert not exists(orphan)
