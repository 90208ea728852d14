"""What a drill has been promised, as it was promised."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from shared.domain.types import Mode
from shared.testing.drill.submitting.workload import Job, Told

__all__ = ["Address", "Call", "CallLog", "Ledger"]

Address = Callable[[Job], str]
"""Where the callback of a job goes."""


@dataclass(frozen=True, slots=True)
class Call:
    """A callback that was accepted, whether its signature was valid, and when it came, s since the epoch."""

    body: bytes
    verified: bool
    at: float = 0.0


class CallLog(Protocol):
    """What a receiver remembers."""

    @property
    def url(self) -> str:
        """Where it takes callbacks."""

    def calls(self) -> Mapping[str, Sequence[Call]]:
        """Every accepted call so far, by `webhook-id`."""


@dataclass
class Ledger:
    """Jobs by the id under which they were acknowledged, and the answers of sync calls.

    `called_back` holds the ids whose outcome must come by a callback or end as a dead letter. `unknown` are
    jobs by reference whose submission was tried and not acknowledged: they may exist once, or not at all.
    `aborted` are references of records in transactions that were never committed. `split` are ids under
    which a reference was acknowledged that had another id before, `refused` what the API would not take.
    """

    jobs: dict[str, Job] = field(default_factory=dict)
    called_back: set[str] = field(default_factory=set)
    answers: dict[str, list[Told]] = field(default_factory=lambda: defaultdict(list))
    unknown: dict[str, Job] = field(default_factory=dict)
    aborted: set[str] = field(default_factory=set)
    split: set[str] = field(default_factory=set)
    refused: list[str] = field(default_factory=list)
    ids_by_reference: dict[str, str] = field(default_factory=dict)

    def attempt(self, job: Job) -> None:
        """A job is about to be submitted."""
        if job.reference not in self.ids_by_reference:
            self.unknown[job.reference] = job

    def accept(self, request_id: str, job: Job, *, callback: bool) -> None:
        """A request was promised an outcome."""
        self.unknown.pop(job.reference, None)
        if self.ids_by_reference.setdefault(job.reference, request_id) != request_id:
            self.split.add(request_id)
        self.jobs[request_id] = job
        if callback:
            self.called_back.add(request_id)

    def answer(self, request_id: str, told: Told) -> None:
        """A sync call was answered."""
        self.answers[request_id].append(told)

    def adopt(self, reference: str, request_id: str) -> None:
        """A submission that nobody acknowledged exists: from now on it is judged like all others."""
        job = self.unknown.get(reference)
        if job is not None:
            self.accept(request_id, job, callback=job.mode is Mode.ASYNC)

    def missing_calls(self, calls: Mapping[str, Sequence[Call]]) -> set[str]:
        """Ids whose callback has neither come nor is to become a dead letter."""
        return {each for each in self.called_back - calls.keys() if not self.jobs[each].refused}
