"""What is done to the system while it works: a schedule of faults that a seed repeats."""

import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

__all__ = ["BROKER", "COVERED_MINUTES", "Fault", "FaultKind", "fault_schedule"]

BROKER: Final = "kafka"
COVERED_MINUTES: Final = 10.0
"""A schedule for so long has every victim with every kind of fault."""

SHORTEST_STOP_S: Final = 0.5
LONGEST_STOP_S: Final = 45.0
BEYOND_SESSION_S: Final = 31.0
"""A consumer that stands still for so long has lost its partitions: the session is 30 s."""

STOPS_OF_A_ROUND_S: Final = 120.0
"""Of all services but for the long one, or a round would not fit into its ten minutes."""

PAUSE_S: Final = (2.0, 8.0)
SOON_S: Final = (1.0, 4.0)
HEAD: Final = 3
"""Among so many first faults is the stop beyond the session, that a short run has it too."""


class FaultKind(StrEnum):
    """What is done to a victim's process."""

    KILL = "SIGKILL"
    KILL_TWICE = "SIGKILL twice"
    STOP = "SIGSTOP"
    RESTART = "SIGTERM"


NOMINAL_S: Final = {
    FaultKind.KILL: 5.0,
    FaultKind.KILL_TWICE: 10.0,
    FaultKind.STOP: 2.0,
    FaultKind.RESTART: 5.0,
}
"""What the recovery is reckoned to take, for planning alone."""

BROKER_S: Final = 15.0
"""The broker needs that much longer to start than a service."""

BROKER_STOP_S: Final = (6.0, 45.0)
"""Beyond the longest wait for an acknowledgement (5 s): a shorter one hardly differs from a slow broker."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One thing to be done to one victim, `pause_s` after the system has recovered from the last.

    `stop_s` is how long a stop lasts, and for two kills how long after the recovery the second one comes.
    """

    victim: str
    kind: FaultKind
    pause_s: float
    stop_s: float = 0.0

    @property
    def nominal_s(self) -> float:
        """How long it is reckoned to take with its pause and the recovery."""
        extra_s = BROKER_S if self.victim == BROKER and self.kind is not FaultKind.STOP else 0.0
        return self.pause_s + self.stop_s + NOMINAL_S[self.kind] + extra_s

    def __str__(self) -> str:
        """As a line of the schedule."""
        lasts = f" {self.stop_s:.1f} s" if self.kind is FaultKind.STOP else ""
        return f"{self.victim} {self.kind}{lasts}, after {self.pause_s:.1f} s"


def fault_schedule(seed: int, minutes: float, services: Sequence[str]) -> tuple[Fault, ...]:
    """The faults of a run of so many minutes; equal arguments give equal faults.

    The first round has each service killed and stopped, and the broker restarted, killed and stopped; more
    rounds follow while there is time. Below `COVERED_MINUTES` not even the first may be complete.
    """
    draw = random.Random(f"faults-{seed}")  # noqa: S311 - repeatable, not secret
    planned: list[Fault] = []
    left_s = minutes * 60
    for fault in _endless(draw, services):
        left_s -= fault.nominal_s
        if planned and left_s < 0:
            break
        planned.append(fault)
    return tuple(planned)


def _endless(draw: random.Random, services: Sequence[str]) -> Iterator[Fault]:
    while True:
        yield from _round(draw, services)


def _round(draw: random.Random, services: Sequence[str]) -> list[Fault]:
    consumers = [each for each in services if each.startswith(("compute-", "callback-"))]
    faults = [_fault(draw, each, kind) for each in services for kind in (FaultKind.KILL, FaultKind.STOP)]
    faults += [_fault(draw, BROKER, kind) for kind in (FaultKind.RESTART, FaultKind.KILL, FaultKind.STOP)]
    faults += [_fault(draw, draw.choice(_computing(services)), FaultKind.KILL_TWICE)]
    long = draw.choice([each for each in faults if each.kind is FaultKind.STOP and each.victim in consumers])
    others = _bounded([each for each in faults if each is not long])
    draw.shuffle(others)
    lasting = replace(long, stop_s=draw.uniform(BEYOND_SESSION_S, LONGEST_STOP_S))
    others.insert(draw.randrange(HEAD), lasting)
    return others


def _computing(services: Sequence[str]) -> list[str]:
    return [each for each in services if each.startswith("compute-")]


def _fault(draw: random.Random, victim: str, kind: FaultKind) -> Fault:
    pause_s = draw.uniform(*PAUSE_S)
    match kind:
        case FaultKind.STOP:
            bounds = BROKER_STOP_S if victim == BROKER else (SHORTEST_STOP_S, LONGEST_STOP_S)
            stop_s = math.exp(draw.uniform(*map(math.log, bounds)))
        case FaultKind.KILL_TWICE:
            stop_s = draw.uniform(*SOON_S)
        case _:
            stop_s = 0.0
    return Fault(victim=victim, kind=kind, pause_s=pause_s, stop_s=stop_s)


def _bounded(faults: list[Fault]) -> list[Fault]:
    """The same with stops of services that are shortened alike where they would last too long altogether."""
    total_s = sum(each.stop_s for each in faults if _stops_service(each))
    share = min(1.0, STOPS_OF_A_ROUND_S / total_s)
    return [_shortened(each, share) if _stops_service(each) else each for each in faults]


def _stops_service(fault: Fault) -> bool:
    return fault.kind is FaultKind.STOP and fault.victim != BROKER


def _shortened(fault: Fault, share: float) -> Fault:
    return replace(fault, stop_s=max(SHORTEST_STOP_S, fault.stop_s * share))
