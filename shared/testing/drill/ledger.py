"""What a drill has been promised, and what came of it."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import orjson

from shared.domain.types import Mode
from shared.testing.drill.workload import Job

__all__ = ["Call", "CallLog", "Ledger", "Verdict", "judge"]


@dataclass(frozen=True, slots=True)
class Call:
    """A callback that arrived, and whether its signature was valid."""

    body: bytes
    verified: bool


class CallLog(Protocol):
    """What a receiver remembers."""

    @property
    def url(self) -> str:
        """Where it takes callbacks."""

    def calls(self) -> Mapping[str, Sequence[Call]]:
        """Every call so far, by `webhook-id`."""


@dataclass
class Ledger:
    """Jobs by the id under which they were accepted, and the answers of sync calls.

    `called_back` holds the ids whose outcome must come by a callback.
    """

    jobs: dict[str, Job] = field(default_factory=dict)
    called_back: set[str] = field(default_factory=set)
    answers: dict[str, Any] = field(default_factory=dict)

    def accept(self, request_id: str, job: Job, *, callback: bool) -> None:
        """A request was promised an outcome."""
        self.jobs[request_id] = job
        if callback:
            self.called_back.add(request_id)

    def answer(self, request_id: str, body: Any) -> None:  # noqa: ANN401 - parsed JSON
        """A sync call was answered."""
        self.answers[request_id] = body

    def ids(self, mode: Mode) -> set[str]:
        """Ids of the requests of one mode."""
        return {request_id for request_id, job in self.jobs.items() if job.mode is mode}

    def missing_calls(self, calls: Mapping[str, Sequence[Call]]) -> set[str]:
        """Ids whose callback has not come."""
        return self.called_back - calls.keys()


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """How a drill ended: everything but `accepted`, `answered` and `called` must be zero."""

    accepted: int
    answered: int
    called: int
    wrong_answers: int
    wrong_calls: int
    unverified_calls: int
    repeated_calls: int
    missing_calls: int
    unasked_calls: int
    miscounted: Mapping[str, int]

    def kept(self, *, repeats: int = 0) -> bool:
        """Whether every promise was kept, and no more than `repeats` callbacks came again."""
        faults = (
            self.wrong_answers,
            self.wrong_calls,
            self.unverified_calls,
            self.missing_calls,
            self.unasked_calls,
            sum(self.miscounted.values()),
        )
        return not any(faults) and self.repeated_calls <= repeats

    def lines(self, *, repeats: int = 0) -> list[str]:
        """The verdict for people; up to `repeats` callbacks may have come again, since their caller died."""
        return [
            f"accepted {self.accepted}, answered in the call {self.answered}, called back {self.called}",
            f"wrong results: {self.wrong_answers} answers, {self.wrong_calls} callbacks",
            f"callbacks: {self.missing_calls} missing, {self.repeated_calls} repeated, "
            f"{self.unverified_calls} with a bad signature, {self.unasked_calls} never asked for",
            f"listed otherwise than they ended: {dict(self.miscounted)}",
            self._conclusion(repeats),
        ]

    def _conclusion(self, repeats: int) -> str:
        if self.kept():
            return "every promise was kept, once"
        if self.kept(repeats=repeats):
            return f"every promise was kept; the deaths excuse up to {repeats} repeated callbacks"
        return "NOT every promise was kept once"


def judge(
    ledger: Ledger, calls: Mapping[str, Sequence[Call]], listed: Mapping[tuple[Mode, str], set[str]]
) -> Verdict:
    """Compare promises with what happened.

    Args:
        ledger: the promises.
        calls: what the receiver saw.
        listed: ids as the API lists them, by mode and status.
    """
    every = [(request_id, call) for request_id, made in calls.items() for call in made]
    return Verdict(
        accepted=len(ledger.jobs),
        answered=len(ledger.answers),
        called=len(every),
        wrong_answers=sum(not _right(ledger, each, body) for each, body in ledger.answers.items()),
        wrong_calls=sum(not _right(ledger, each, orjson.loads(call.body)) for each, call in every),
        unverified_calls=sum(not call.verified for _, call in every),
        repeated_calls=sum(len(made) - 1 for made in calls.values()),
        missing_calls=len(ledger.missing_calls(calls)),
        unasked_calls=len(calls.keys() - ledger.called_back),
        miscounted=_miscounted(ledger, listed),
    )


def _right(ledger: Ledger, request_id: str, body: Any) -> bool:  # noqa: ANN401 - parsed JSON
    """Whether an answer or a callback tells the result of its request."""
    job = ledger.jobs.get(request_id)
    if job is None or body["id"] != request_id or body["status"] != "succeeded":
        return False
    return body["operation"] == job.operation and job.is_result(body["result"])


def _miscounted(ledger: Ledger, listed: Mapping[tuple[Mode, str], set[str]]) -> Counter[str]:
    """How many requests are listed where they should not be, or not where they should."""
    found: Counter[str] = Counter()
    for (mode, status), ids in listed.items():
        expected = ledger.ids(mode) if status == "succeeded" else set()
        found[f"{mode}/{status}"] = len(ids ^ expected)
    return found
