"""Faults are done one after the other, each undone again, and what did not recover is told."""

import asyncio
import signal
from dataclasses import dataclass, field, replace

import pytest

from shared.testing.drill.faults import chaos
from shared.testing.drill.faults.chaos import Incident, do_faults
from shared.testing.drill.faults.schedule import Fault, FaultKind
from tests.support.waiting import until

STOP = Fault(victim="compute-0", kind=FaultKind.STOP, pause_s=0.0, stop_s=0.01)
KILL = Fault(victim="compute-1", kind=FaultKind.KILL, pause_s=0.0)


@dataclass
class FakeSystem:
    """Notes its signals; it works again when it has been asked so often."""

    asked_in_vain: int = 0
    absent: int = 0
    signals: list[tuple[str, signal.Signals]] = field(default_factory=list)
    asked: int = 0

    def signal(self, name: str, number: signal.Signals) -> int:
        if self.absent:
            self.absent -= 1
            raise LookupError(name)
        self.signals.append((name, number))
        self.asked = 0
        return 1

    async def silent(self) -> list[str]:
        self.asked += 1
        return ["compute-0"] if self.asked <= self.asked_in_vain else []


async def done(
    system: FakeSystem, *faults: Fault, until_s: float = 60.0, latest_s: float = 60.0
) -> tuple[list[Incident], list[Fault]]:
    incidents: list[Incident] = []
    now = asyncio.get_running_loop().time()
    undone = await do_faults(
        system, faults, until=now + until_s, latest=now + latest_s, done=incidents, say=lambda _: None
    )
    return incidents, undone


async def test_a_stopped_process_goes_on_after_its_time() -> None:
    system = FakeSystem()
    incidents, undone = await done(system, STOP, KILL)
    assert system.signals == [
        ("compute-0", signal.SIGSTOP),
        ("compute-0", signal.SIGCONT),
        ("compute-1", signal.SIGKILL),
    ]
    assert [each.victim for each in incidents] == ["compute-0", "compute-1"]
    assert undone == []


async def test_a_stopped_process_goes_on_when_the_drill_is_cancelled() -> None:
    system = FakeSystem()
    running = asyncio.create_task(done(system, replace(STOP, stop_s=60.0)))
    await until(lambda: bool(system.signals))
    running.cancel()
    await asyncio.wait([running])
    assert system.signals[-1] == ("compute-0", signal.SIGCONT)


async def test_the_next_fault_waits_for_the_recovery_from_the_last() -> None:
    system = FakeSystem(asked_in_vain=3)
    incidents, _ = await done(system, KILL, STOP)
    assert all(each.ready is not None for each in incidents)
    assert incidents[0].over <= incidents[1].began


async def test_a_second_kill_follows_the_recovery_from_the_first() -> None:
    system = FakeSystem(asked_in_vain=1)
    await done(system, Fault(victim="compute-0", kind=FaultKind.KILL_TWICE, pause_s=0.0))
    assert system.signals == [("compute-0", signal.SIGKILL)] * 2


async def test_a_victim_that_is_just_being_restarted_is_waited_for() -> None:
    system = FakeSystem(absent=2)
    await done(system, KILL)
    assert system.signals == [("compute-1", signal.SIGKILL)]


async def test_a_system_that_does_not_recover_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chaos, "RECOVERY_TIMEOUT_S", 0.1)
    incidents, _ = await done(FakeSystem(asked_in_vain=10**9), KILL)
    assert incidents[0].ready is None
    assert incidents[0].silent == ("compute-0",)
    assert "did NOT recover (compute-0 silent)" in incidents[0].line(0.0)


async def test_faults_without_time_are_left_and_told() -> None:
    late = replace(STOP, pause_s=70.0)
    incidents, undone = await done(FakeSystem(), KILL, late)
    assert [each.victim for each in incidents] == ["compute-1"]
    assert undone == [late]


async def test_in_overtime_only_what_was_not_done_before_is_done() -> None:
    incidents, undone = await done(FakeSystem(), KILL, KILL, STOP, until_s=-1.0)
    assert [each.kind for each in incidents] == [FaultKind.KILL, FaultKind.STOP]
    assert undone == [KILL]


@pytest.mark.parametrize(("victim", "excuses"), [("callback-0", True), ("kafka", True), ("compute-0", False)])
def test_only_what_the_callback_service_feels_may_repeat_callbacks(victim: str, excuses: bool) -> None:
    hurt = Incident(victim=victim, kind=FaultKind.STOP, began=1.0, ended=2.0, ready=3.0)
    assert hurt.may_repeat_callbacks() is excuses
