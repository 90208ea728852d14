"""The work of a long drill: mostly small, some slow, some that must fail, and receivers of every temper."""

import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, Final

from shared.domain.types import Mode
from shared.testing.drill.submitting.workload import MAKERS, Job

__all__ = ["mixture"]

MIDDLING_ROUNDS: Final = 40_000
"""About 20 ms."""

MIDDLING_INPUTS: Final = 40
"""So few different ones, since each is recomputed at the judgement."""

NAP_MS: Final = (1_000, 2_500)
NAP_LIMIT_S: Final = 5.0
"""Twice the longest nap: whatever stops its consumer, the operation itself has ended by then."""

Draw = random.Random
Make = Callable[[Draw], dict[str, Any]]


def mixture(prefix: str, mode: Mode, seed: int) -> Iterator[Job]:
    """Jobs without end; equal arguments give equal jobs. Needs the operations `hazard` and `nap`."""
    draw = Draw(f"{seed}-{prefix}")
    makes, weights = zip(*_KINDS, strict=True)
    number = 0
    while True:
        number += 1
        job = Job(f"{prefix}-{number}", mode, **draw.choices(makes, weights)[0](draw))
        yield job if mode is Mode.SYNC else _with_callback(draw, job)


def _small(draw: Draw) -> dict[str, Any]:
    operation, make = draw.choice(MAKERS)
    return {"operation": operation, "input": make(draw)}


def _middling(draw: Draw) -> dict[str, Any]:
    seed = f"middling {draw.randrange(MIDDLING_INPUTS)}"
    return {"operation": "hash_chain", "input": {"seed": seed, "rounds": MIDDLING_ROUNDS}}


def _nap(draw: Draw) -> dict[str, Any]:
    value = draw.randrange(10**6)
    task = {"ms": draw.randint(*NAP_MS), "value": value}
    return {"operation": "nap", "input": task, "known": {"value": value}, "timeout_s": NAP_LIMIT_S}


def _overslept(draw: Draw) -> dict[str, Any]:
    task = {"ms": 60_000, "value": 1}
    return {"operation": "nap", "input": task, "timeout_s": draw.uniform(0.2, 1.0), "failure": "timeout"}


def _crash(draw: Draw) -> dict[str, Any]:
    kind = draw.choice(("segfault", "exit_with_3", "kill_itself"))
    return {"operation": "hazard", "input": {"kind": kind}, "failure": "crashed"}


def _error(_: Draw) -> dict[str, Any]:
    return {"operation": "hazard", "input": {"kind": "raise_error"}, "failure": "operation_error"}


_KINDS: Final[tuple[tuple[Make, float], ...]] = (
    (_small, 60.0),
    (_middling, 30.0),
    (_nap, 6.0),
    (_overslept, 1.0),
    (_crash, 1.5),
    (_error, 1.5),
)
_TEMPERS: Final[tuple[tuple[dict[str, str], float], ...]] = (
    ({}, 85.0),
    ({"status": "503", "first": "1"}, 6.0),
    ({"status": "503", "first": "2"}, 2.0),
    ({"do": "hang", "first": "1"}, 1.0),
    ({"do": "reset", "first": "1"}, 1.0),
    ({"delay_ms": "700"}, 4.0),
    ({"status": "404"}, 1.0),
)
"""Queries of callback URLs. No receiver fails for good but by 404, which makes a dead letter at once.

Each such URL is one job's own: one URL whose first calls all fail would be left alone for most of the time.
"""


def _with_callback(draw: Draw, job: Job) -> Job:
    queries, weights = zip(*_TEMPERS, strict=True)
    query = draw.choices(queries, weights)[0]
    own = query | {"body": job.reference} if query else query
    return replace(job, callback=tuple(own.items()), refused=query.get("status") == "404")
