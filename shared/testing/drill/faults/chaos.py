"""Doing to a running system what a schedule says, and noting when it had recovered."""

import asyncio
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, Protocol

from shared.testing.drill.faults.schedule import BROKER, Fault, FaultKind

__all__ = ["RECOVERY_TIMEOUT_S", "Incident", "Target", "do_faults"]

RECOVERY_TIMEOUT_S: Final = 240.0
"""Far beyond what is promised: where the cores are taken, a broker alone needs more than a minute."""

PROBE_S: Final = 0.05
RUNNING_TIMEOUT_S: Final = 30.0

Say = Callable[[str], None]


class Target(Protocol):
    """A system that keeps its processes running."""

    def signal(self, name: str, number: signal.Signals) -> int:
        """Signal the process of a part; raises LookupError while there is none."""

    async def silent(self) -> list[str]:
        """Names of the parts that do not work at this moment."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Incident:
    """A fault that was done. Times are s since the epoch.

    `ended` is when the victim was let go on, or was dead; `ready` is when every part worked again, None when
    none of the time for it was enough, with `silent` as the parts that did not.
    """

    victim: str
    kind: FaultKind
    began: float
    ended: float
    ready: float | None
    silent: tuple[str, ...] = ()

    @property
    def over(self) -> float:
        """When it no longer was to be felt, as far as is known."""
        return self.ready or self.ended + RECOVERY_TIMEOUT_S

    def may_repeat_callbacks(self) -> bool:
        """Whether the callback service died, was stopped or may have lost its partitions by it."""
        return self.victim.startswith("callback-") or self.victim == BROKER

    def line(self, start: float) -> str:
        """For people; `start` is when the drill began."""
        lasted = f" for {self.ended - self.began:.1f} s" if self.kind is FaultKind.STOP else ""
        took = "did NOT recover" if self.ready is None else f"ready {self.ready - self.ended:.1f} s later"
        missing = f" ({', '.join(self.silent)} silent)" if self.silent else ""
        return f"{self.began - start:6.1f} s  {self.victim} {self.kind}{lasted}: {took}{missing}"


async def do_faults(
    target: Target, faults: Sequence[Fault], *, until: float, latest: float, done: list[Incident], say: Say
) -> list[Fault]:
    """Do one fault after the other, each when the system has recovered from the last; adds to `done`.

    None begins after `until`, of the loop's clock, unless its victim has not met with that kind of fault;
    those begin until `latest`. Returns those that found no time.
    """
    loop, start = asyncio.get_running_loop(), time.time()
    undone: list[Fault] = []
    for fault in faults:
        known = any((each.victim, each.kind) == (fault.victim, fault.kind) for each in done)
        if loop.time() + fault.pause_s > (until if known else latest):
            undone.append(fault)
            continue
        await asyncio.sleep(fault.pause_s)
        done.append(await _do(target, fault))
        say(done[-1].line(start))
    return undone


async def _do(target: Target, fault: Fault) -> Incident:
    began = time.time()
    match fault.kind:
        case FaultKind.STOP:
            await _stop(target, fault)
        case FaultKind.KILL_TWICE:
            await _signal(target, fault.victim, signal.SIGKILL)
            await _recovered(target)
            await asyncio.sleep(fault.stop_s)
            await _signal(target, fault.victim, signal.SIGKILL)
        case FaultKind.KILL:
            await _signal(target, fault.victim, signal.SIGKILL)
        case FaultKind.RESTART:
            await _signal(target, fault.victim, signal.SIGTERM)
    ended = time.time()
    silent = await _recovered(target)
    ready = None if silent else time.time()
    return Incident(
        victim=fault.victim, kind=fault.kind, began=began, ended=ended, ready=ready, silent=tuple(silent)
    )


async def _stop(target: Target, fault: Fault) -> None:
    """Whatever ends the wait, the process goes on: a stopped one could not even be asked to end."""
    await _signal(target, fault.victim, signal.SIGSTOP)
    try:
        await asyncio.sleep(fault.stop_s)
    finally:
        with suppress(LookupError):  # it was killed meanwhile
            target.signal(fault.victim, signal.SIGCONT)


async def _signal(target: Target, victim: str, number: signal.Signals) -> None:
    """Signal the victim as soon as it has a process."""
    async with asyncio.timeout(RUNNING_TIMEOUT_S):
        while True:
            try:
                target.signal(victim, number)
            except LookupError:
                await asyncio.sleep(PROBE_S)
            else:
                return


async def _recovered(target: Target) -> list[str]:
    """Wait until every part works; names of those that do not when the time is over."""
    silent = await target.silent()
    give_up_at = time.monotonic() + RECOVERY_TIMEOUT_S
    while silent and time.monotonic() < give_up_at:
        await asyncio.sleep(PROBE_S)
        silent = await target.silent()
    return silent
