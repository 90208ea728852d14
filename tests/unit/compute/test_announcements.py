"""An announcement lies before the outcome of its request, also when its acknowledgement is late."""

import asyncio
from typing import cast

import pytest

from services.compute import journal as journal_module
from services.compute.journal import Journal
from shared.domain.execution import fail, start
from shared.domain.requests import Failure, FailureCode, RequestFailed, RequestSubmitted
from shared.kafka.producer import LogError, LogUnavailable, SendUnknown, SupervisedProducer
from shared.kafka.records import OutgoingRecord
from tests.support.requests import submitted
from tests.support.waiting import until


class Log:
    """A producer that lists records in the order of their sends; a send may end with an error."""

    def __init__(self, error: LogError | None = None) -> None:
        self.error = error
        self.hangs = False
        self.given: list[str] = []

    async def send(self, record: OutgoingRecord) -> None:
        await self.append(record)
        if self.error is not None:
            raise self.error

    async def append(self, record: OutgoingRecord) -> None:
        self.given.append(dict(record.headers)["ce_type"].decode().split(".")[-2])
        if self.hangs:
            await asyncio.Event().wait()


class Bench:
    """A journal over two producers, and whether requests queue."""

    def __init__(self, error: LogError | None = None) -> None:
        self.urgent, self.bulk = Log(error), Log(error)
        self.is_crowded = True
        self.journal = Journal(
            urgent=cast("SupervisedProducer", self.urgent),
            bulk=cast("SupervisedProducer", self.bulk),
            crowded=lambda: self.is_crowded,
        )

    async def announce(self, asked: RequestSubmitted, attempt: int = 1) -> None:
        await self.journal.started(start(asked, attempt=attempt, started_at_ms=1, worker="compute-0"), None)

    async def end(self, asked: RequestSubmitted) -> None:
        await self.journal.outcome(asked, timed_out(asked), None)


def timed_out(asked: RequestSubmitted) -> RequestFailed:
    return fail(asked, Failure(code=FailureCode.TIMEOUT, message=""), attempts=1, now_ms=4)


async def test_an_outcome_queues_behind_an_announcement_that_may_come_late() -> None:
    """Over another producer it could overtake the announcement."""
    made = Bench(SendUnknown("no acknowledgement"))
    await made.announce(submitted())
    made.is_crowded = False
    await made.announce(submitted(), attempt=2)
    await made.end(submitted())
    assert (made.bulk.given, made.urgent.given) == (["started", "started", "failed"], [])
    await made.end(submitted(2))
    assert made.urgent.given == ["failed"]


async def test_an_announcement_whose_request_has_ended_is_forgotten() -> None:
    made = Bench(SendUnknown("no acknowledgement"))
    await made.announce(submitted())
    await made.end(submitted())
    made.is_crowded = False
    await made.end(submitted())
    assert made.urgent.given == ["failed"]


async def test_an_announcement_that_was_given_up_may_be_written_too() -> None:
    made = Bench(SendUnknown("no acknowledgement"))
    made.bulk.hangs = True
    announcing = asyncio.create_task(made.announce(submitted()))
    await until(lambda: made.bulk.given == ["started"])
    announcing.cancel()
    await asyncio.wait({announcing})
    made.is_crowded = False
    ending = asyncio.create_task(made.end(submitted()))
    await until(lambda: made.bulk.given == ["started", "failed"])
    ending.cancel()  # its partition is lost, and comes back
    await asyncio.wait({ending})
    made.bulk.hangs = False
    await made.end(submitted())
    assert (made.bulk.given, made.urgent.given) == (["started", "failed", "failed"], [])


@pytest.mark.parametrize("error", [None, LogUnavailable("away")])
async def test_an_announcement_that_is_written_or_never_will_be_binds_nobody(error: LogError | None) -> None:
    made = Bench(error)
    await made.announce(submitted())
    made.is_crowded = False
    await made.end(submitted())
    assert (made.bulk.given, made.urgent.given) == (["started"], ["failed"])


async def test_announcements_of_requests_that_end_elsewhere_are_bounded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(journal_module, "MOST_LATE_ANNOUNCEMENTS", 2)
    made = Bench(SendUnknown("no acknowledgement"))
    for number in range(3):
        await made.announce(submitted(number))
    made.is_crowded = False
    for number in range(3):
        await made.end(submitted(number))
    assert made.urgent.given == ["failed"]
    assert made.bulk.given == ["started"] * 3 + ["failed"] * 2
