"""A poison record is decoded for its outcome only while that cannot have ended the process as well."""

from pathlib import Path
from typing import Final, cast

import pytest

from services.compute.execution import Announcer, ExecutionContext
from services.compute.handlers import Compute
from services.compute.journal import Journal
from services.compute.replies import Replies
from services.compute.settings import ComputeSettings
from services.compute.slot_pool import SlotPool, SlotPoolSettings
from shared.domain.requests import RequestDeadLettered
from shared.events.request_data import SubmissionError
from shared.kafka.consumer import Quarantine
from shared.kafka.records import Record
from shared.operations.registry import load_registry

LIMIT: Final = 2
RECORD: Final = Record("requests", 0, 7, 1_000, None, b"{")


class Letters:
    """A journal of dead letters."""

    def __init__(self) -> None:
        self.kept: list[RequestDeadLettered] = []

    async def dead_letter(self, letter: RequestDeadLettered) -> None:
        self.kept.append(letter)


@pytest.mark.parametrize(("attempts", "decoded"), [(LIMIT, 1), (LIMIT + 1, 1), (LIMIT + 2, 0)])
async def test_the_limit_of_the_quarantine_says_how_often_a_poison_record_is_decoded(
    attempts: int, decoded: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    letters, decodings = Letters(), list[Record]()
    context = ExecutionContext(
        pool=SlotPool(SlotPoolSettings()),
        journal=cast("Journal", letters),
        announcer=cast("Announcer", None),
        quarantine=Quarantine(tmp_path, attempts=LIMIT),
    )
    compute = Compute(ComputeSettings(), load_registry(), context, cast("Replies", None))

    async def decode(record: Record) -> SubmissionError:
        decodings.append(record)
        return SubmissionError("no_request", "it is none")

    monkeypatch.setattr(compute, "_decode", decode)
    await compute.on_poison(RECORD, attempts)
    assert len(decodings) == decoded
    assert [(each.reason, each.attempts) for each in letters.kept] == [("poison", attempts)]
