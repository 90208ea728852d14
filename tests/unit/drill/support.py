"""A small drill that kept every promise, to be broken in one place at a time."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import orjson

from shared.domain.types import Mode
from shared.testing.drill.faults.chaos import Incident
from shared.testing.drill.faults.schedule import FaultKind
from shared.testing.drill.judging.evidence import Evidence, Listed, Outcome
from shared.testing.drill.judging.ledger import Call, Ledger
from shared.testing.drill.judging.verdict import Verdict, judge
from shared.testing.drill.submitting.workload import Job, Told

__all__ = [
    "ASYNC",
    "CRASH",
    "REFUSED",
    "SYNC",
    "World",
    "broken",
    "call",
    "changed",
    "incident",
    "kept_world",
]

SHARE = 2

SYNC = Job("sync-1", Mode.SYNC, "nap", {"ms": 0}, known={"value": 1})
ASYNC = Job("async-1", Mode.ASYNC, "nap", {"ms": 0}, known={"value": 2})
CRASH = Job("crash-1", Mode.ASYNC, "hazard", {"kind": "segfault"}, failure="crashed")
REFUSED = Job("refused-1", Mode.ASYNC, "nap", {"ms": 0}, known={"value": 3}, refused=True)


@dataclass
class World:
    """Promises and what came of them, each open to change. Ids are references with `id-` before them."""

    ledger: Ledger
    outcomes: dict[str, list[Outcome]]
    calls: dict[str, list[Call]]
    listed: list[Listed]
    letters: set[str]
    condemned: list[str] = field(default_factory=list)
    incidents: list[Incident] = field(default_factory=list)

    def verdict(self) -> Verdict:
        """On all that has become of it."""
        evidence = Evidence(
            calls=self.calls,
            listed=self.listed,
            outcomes=self.outcomes,
            letters=self.letters,
            condemned=self.condemned,
            incidents=self.incidents,
        )
        return judge(self.ledger, evidence, share=SHARE)

    def add_outcome(self, request_id: str, told: Told, reference: str | None = None) -> None:
        """One more terminal record."""
        found = self.outcomes.setdefault(request_id, [])
        found.append(Outcome(told, reference, f"results-0-{len(found)}"))

    def relist(self, request_id: str, change: Callable[[Listed], Listed]) -> None:
        """The listing says something else of one request."""
        self.listed = [change(each) if each.request_id == request_id else each for each in self.listed]


def kept_world() -> World:
    """A sync request, an async one, one that must crash, and one whose receiver refuses the callback."""
    world = World(Ledger(), {}, {}, [], {"id-refused-1"})
    for job in (SYNC, ASYNC, CRASH, REFUSED):
        request_id = f"id-{job.reference}"
        world.ledger.attempt(job)
        world.ledger.accept(request_id, job, callback=job.mode is Mode.ASYNC)
        world.add_outcome(request_id, job.expected, job.reference)
        if job.mode is Mode.ASYNC and not job.refused:
            world.calls[request_id] = [call(job)]
        world.listed.append(_row(job))
    world.ledger.answer("id-sync-1", SYNC.expected)
    return world


def call(job: Job, *, told: Told | None = None, verified: bool = True, at: float = 100.0) -> Call:
    """A callback of `job`."""
    told = told or job.expected
    body: Mapping[str, object] = {
        "id": f"id-{job.reference}",
        "operation": job.operation,
        "status": told.status,
        **({"error": {"code": told.code}} if told.code else {"result": told.result}),
    }
    return Call(orjson.dumps(body), verified=verified, at=at)


def incident(victim: str, began: float, ready: float) -> Incident:
    """A death between two moments."""
    return Incident(victim=victim, kind=FaultKind.KILL, began=began, ended=began, ready=ready)


def _row(job: Job) -> Listed:
    callback = "none" if job.mode is Mode.SYNC else "failed" if job.refused else "delivered"
    return Listed(f"id-{job.reference}", job.reference, job.mode, job.expected.status, callback)


def changed(what: str) -> Callable[[Listed], Listed]:
    """A change of one column to a wrong value."""
    return lambda row: replace(row, **{what: "wrong"})


def broken(verdict: Verdict) -> Sequence[str]:
    """What the verdict says is wrong."""
    return list(verdict.broken)
