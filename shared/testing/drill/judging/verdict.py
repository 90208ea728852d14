"""The verdict on a drill: how much there was of everything, and with which requests a promise was broken."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from shared.testing.drill.judging.evidence import Evidence
from shared.testing.drill.judging.ledger import Ledger
from shared.testing.drill.judging.rules import broken_rules, repeated_calls, superseded, unexcused_repeats

__all__ = ["Verdict", "judge"]

SHOWN: Final = 3
"""Offending requests of each kind that are named."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """How a drill ended.

    `broken` are the ids by what is wrong with them; `troubles` what is wrong with the system as a whole, in
    words; `repeated` the callbacks that came again, `unexcused` those of them that nothing excuses.
    """

    accepted: int
    answered: int
    called: int
    unacknowledged: int = 0
    aborted: int = 0
    letters: int = 0
    superseded: int = 0
    repeated: int = 0
    unexcused: Sequence[str] = ()
    broken: Mapping[str, Sequence[str]] = field(default_factory=dict)
    troubles: Sequence[str] = ()

    def kept(self, *, repeats: int = 0) -> bool:
        """Whether every promise was kept, and no more than `repeats` callbacks came again unexcused."""
        return not self.broken and not self.troubles and len(self.unexcused) <= repeats

    def troubled(self, *troubles: str) -> "Verdict":
        """The same with more that is wrong with the system."""
        return replace(self, troubles=(*self.troubles, *troubles))

    def offenders(self) -> dict[str, list[str]]:
        """A few ids of each kind of broken promise."""
        found = {what: list(ids[:SHOWN]) for what, ids in self.broken.items()}
        return found | ({"called back again": list(self.unexcused[:SHOWN])} if self.unexcused else {})

    def lines(self, *, repeats: int = 0) -> list[str]:
        """The verdict for people; up to `repeats` callbacks may have come again, since their caller died."""
        return [
            f"accepted {self.accepted}, answered in the call {self.answered}, called back {self.called}, "
            f"dead letters {self.letters}",
            f"never acknowledged and not there {self.unacknowledged}, aborted {self.aborted}",
            f"outcomes written again {self.superseded}, callbacks that came again {self.repeated} "
            f"({len(self.unexcused)} without an excuse)",
            *(f"BROKEN: {len(ids)} {what}" for what, ids in self.broken.items()),
            *(f"BROKEN: {trouble}" for trouble in self.troubles),
            self._conclusion(repeats),
        ]

    def _conclusion(self, repeats: int) -> str:
        if self.kept():
            return "every promise was kept"
        if self.kept(repeats=repeats):
            return f"every promise was kept; the deaths excuse up to {repeats} repeated callbacks"
        return "NOT every promise was kept"

    def report(self) -> dict[str, Any]:
        """Everything, for JSON."""
        return {
            name: value if not isinstance(value, Mapping) else dict(value)
            for name in self.__slots__
            for value in (getattr(self, name),)
        } | {"kept": self.kept()}


def judge(ledger: Ledger, evidence: Evidence, *, share: int = 0) -> Verdict:
    """Compare promises with what happened.

    Submissions without an acknowledgement that came to exist count as promised from here on: `ledger` learns
    of them. `share` is how many repeated callbacks one incident excuses.
    """
    _adopt(ledger, evidence)
    return Verdict(
        accepted=len(ledger.jobs),
        answered=sum(map(len, ledger.answers.values())),
        called=sum(map(len, evidence.calls.values())),
        unacknowledged=len(ledger.unknown),
        aborted=len(ledger.aborted),
        letters=len(evidence.letters or ()),
        superseded=superseded(evidence),
        repeated=sum(len(made) - 1 for made in repeated_calls(evidence).values()),
        unexcused=tuple(unexcused_repeats(evidence, share)),
        broken=broken_rules(ledger, evidence),
        troubles=tuple(f"refused: {each}" for each in ledger.refused[:SHOWN]),
    )


def _adopt(ledger: Ledger, evidence: Evidence) -> None:
    """Judge what exists like all others, whether or not its submission was acknowledged."""
    for request_id, found in (evidence.outcomes or {}).items():
        if found and found[0].reference:
            ledger.adopt(found[0].reference, request_id)
    for each in evidence.listed:
        if each.reference:
            ledger.adopt(each.reference, each.request_id)
