"""What was promised, rule by rule. A rule returns the ids of the requests with which it was broken."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Final

import orjson

from shared.domain.types import Mode
from shared.testing.drill.faults.chaos import Incident
from shared.testing.drill.judging.evidence import Evidence, Outcome
from shared.testing.drill.judging.ledger import Call, Ledger
from shared.testing.drill.submitting.workload import Job, Told

__all__ = ["broken_rules", "repeated_calls", "superseded", "unexcused_repeats"]

Rule = Callable[[Ledger, Evidence], list[str]]

BEFORE_S: Final = 10.0
AFTER_S: Final = 10.0
"""A call was unrecorded when its caller died or stood still; so long before and after that at the most."""


def _lost(ledger: Ledger, evidence: Evidence) -> list[str]:
    if evidence.outcomes is None:
        return []
    return [each for each in ledger.jobs if not evidence.outcomes.get(each)]


def _wrong_outcome(ledger: Ledger, evidence: Evidence) -> list[str]:
    return [
        each
        for each, first in _first(ledger, evidence)
        if first.code != "poison" and _differs(ledger, each, first)
    ]


def _poison(ledger: Ledger, evidence: Evidence) -> list[str]:
    return [each for each, first in _first(ledger, evidence) if first.code == "poison"]


def _contradicted(_: Ledger, evidence: Evidence) -> list[str]:
    """A later terminal record says something else than the first."""
    return [
        each
        for each, found in (evidence.outcomes or {}).items()
        if any(later.told != found[0].told for later in found[1:])
    ]


def superseded(evidence: Evidence) -> int:
    """Terminal records that another one of the same request precedes."""
    return sum(len(found) - 1 for found in (evidence.outcomes or {}).values() if found)


def _split(ledger: Ledger, evidence: Evidence) -> list[str]:
    """One submission, repeated under its name, that became several requests."""
    ids: dict[str, set[str]] = defaultdict(set)
    for request_id, reference in _named(evidence):
        ids[reference].add(request_id)
    return sorted(ledger.split | {each for found in ids.values() if len(found) > 1 for each in found})


def _aborted(ledger: Ledger, evidence: Evidence) -> list[str]:
    return sorted({each for each, reference in _named(evidence) if reference in ledger.aborted})


def _invented(ledger: Ledger, evidence: Evidence) -> list[str]:
    """Outcomes and rows of requests that nobody has made."""
    found = {each.request_id for each in evidence.listed} | set(evidence.outcomes or {})
    return sorted(found - ledger.jobs.keys() - set(_aborted(ledger, evidence)))


def _wrong_answer(ledger: Ledger, _: Evidence) -> list[str]:
    return [each for each, told in ledger.answers.items() if any(_differs(ledger, each, one) for one in told)]


def _missing_call(ledger: Ledger, evidence: Evidence) -> list[str]:
    letters = evidence.letters or ()
    return sorted(each for each in ledger.missing_calls(evidence.calls) if each not in letters)


def _wrong_call(ledger: Ledger, evidence: Evidence) -> list[str]:
    return [
        each for each, made in evidence.calls.items() if any(_wrong_body(ledger, each, one) for one in made)
    ]


def _unequal_calls(_: Ledger, evidence: Evidence) -> list[str]:
    return [each for each, made in evidence.calls.items() if len({one.body for one in made}) > 1]


def _unverified(_: Ledger, evidence: Evidence) -> list[str]:
    return [each for each, made in evidence.calls.items() if not all(one.verified for one in made)]


def _unasked(ledger: Ledger, evidence: Evidence) -> list[str]:
    return sorted(each for each in evidence.calls if each not in ledger.called_back)


def _wrong_letter(ledger: Ledger, evidence: Evidence) -> list[str]:
    """Callbacks given up although the receiver takes them, or not given up although it refuses them."""
    if evidence.letters is None:
        return []
    due = {each for each in ledger.called_back if ledger.jobs[each].refused}
    return sorted(due ^ set(evidence.letters))


def _condemned(_: Ledger, evidence: Evidence) -> list[str]:
    return sorted(evidence.condemned)


def _unlisted(ledger: Ledger, evidence: Evidence) -> list[str]:
    return sorted(ledger.jobs.keys() - {each.request_id for each in evidence.listed})


def _listed_otherwise(ledger: Ledger, evidence: Evidence) -> list[str]:
    times = Counter(each.request_id for each in evidence.listed)
    return [
        each.request_id
        for each in evidence.listed
        if (job := ledger.jobs.get(each.request_id)) is not None
        and (
            times[each.request_id] > 1
            or (each.mode, each.status, each.callback_status) != _row(job, evidence)
        )
    ]


LOST: Final = "acknowledged and lost"
RULES: Final[dict[str, Rule]] = {
    LOST: _lost,
    "with a wrong outcome": _wrong_outcome,
    "innocent and poison": _poison,
    "with outcomes that differ": _contradicted,
    "submitted once and computed as several": _split,
    "aborted and yet there": _aborted,
    "never submitted and yet there": _invented,
    "answered wrongly": _wrong_answer,
    "without their callback": _missing_call,
    "called back with a wrong result": _wrong_call,
    "called back again with another body": _unequal_calls,
    "called back with a bad signature": _unverified,
    "called back and never asked for": _unasked,
    "with a dead letter too many or too few": _wrong_letter,
    "set aside as no request": _condemned,
    "not listed": _unlisted,
    "listed otherwise than they ended": _listed_otherwise,
}


MEANT_BY_LOST: Final = (_missing_call, _wrong_letter, _listed_otherwise)
"""Rules that a lost request breaks as well; they are asked about the others."""


def broken_rules(ledger: Ledger, evidence: Evidence) -> dict[str, list[str]]:
    """Ids of the requests with which a promise was broken, by what is wrong with them."""
    found = {what: rule(ledger, evidence) for what, rule in RULES.items()}
    lost = set(found[LOST])
    for what, rule in RULES.items():
        if rule in MEANT_BY_LOST:
            found[what] = [each for each in found[what] if each not in lost]
    return {what: ids for what, ids in found.items() if ids}


def repeated_calls(evidence: Evidence) -> dict[str, Sequence[Call]]:
    """Calls of those requests that were called back more than once."""
    return {each: made for each, made in evidence.calls.items() if len(made) > 1}


def unexcused_repeats(evidence: Evidence, share: int) -> list[str]:
    """Ids of callbacks that came again though nothing excuses it.

    Each death, stop or partition loss of the callback service excuses `share` of those that came the first
    time at about that time.
    """
    room = {id(each): share for each in evidence.incidents if each.may_repeat_callbacks()}
    found: list[str] = []
    for request_id, made in repeated_calls(evidence).items():
        for earlier in sorted(made, key=lambda call: call.at)[:-1]:
            excuse = _excuse(evidence.incidents, room, earlier.at)
            if excuse is None:
                found.append(request_id)
            else:
                room[id(excuse)] -= 1
    return found


def _excuse(incidents: Iterable[Incident], room: dict[int, int], at: float) -> Incident | None:
    for each in incidents:
        if room.get(id(each), 0) > 0 and each.began - BEFORE_S <= at <= each.over + AFTER_S:
            return each
    return None


def _first(ledger: Ledger, evidence: Evidence) -> list[tuple[str, Told]]:
    """The outcome of every acknowledged request that has one."""
    known: dict[str, Sequence[Outcome]] = {**(evidence.outcomes or {})}
    return [(each, known[each][0].told) for each in ledger.jobs if known.get(each)]


def _differs(ledger: Ledger, request_id: str, told: Told) -> bool:
    job = ledger.jobs.get(request_id)
    return job is None or told != job.expected


def _wrong_body(ledger: Ledger, request_id: str, call: Call) -> bool:
    body = orjson.loads(call.body)
    job = ledger.jobs.get(request_id)
    named = job is not None and body["operation"] == job.operation and body["id"] == request_id
    return not named or _differs(ledger, request_id, Told.by(body))


def _named(evidence: Evidence) -> list[tuple[str, str]]:
    """Ids and references of all that the log and the listing have."""
    outcomes = [(each, found[0].reference) for each, found in (evidence.outcomes or {}).items() if found]
    rows = [(each.request_id, each.reference) for each in evidence.listed]
    return [(each, reference) for each, reference in (*outcomes, *rows) if reference is not None]


def _row(job: Job, evidence: Evidence) -> tuple[str, str, str]:
    """Mode, status and callback status that a request must be listed with."""
    if job.mode is Mode.SYNC:
        return (job.mode, job.expected.status, "none")
    refused = job.refused and evidence.letters is not None
    return (job.mode, job.expected.status, "failed" if refused else "delivered")
