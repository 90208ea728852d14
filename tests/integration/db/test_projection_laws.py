"""The tables are what the pure folds say, whatever the interleaving, the batches, restarts and repetitions.

The folds of `shared.domain` over the log are the definition; the database is asked for its rows.
"""

import asyncio
from functools import reduce
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shared.db.interpret import Understood, interpret
from shared.db.keys import facts_key
from shared.db.writer import projection_session
from shared.domain import callbacks, requests
from shared.domain.callbacks import CallbackEvent
from shared.domain.requests import Outcome, RequestFailed, RequestStarted, RequestSubmitted
from shared.kafka.records import Partition, Record
from tests.integration.db.histories import histories
from tests.integration.db.support import PROJECTOR, Inspector, apply, register, settings_of
from tests.support.log_builder import LogBuilder, topic_of

pytestmark = [pytest.mark.mysql, pytest.mark.timeout(600)]  # a failure takes its time to shrink


@given(log=histories(), data=st.data())
@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_any_way_of_reading_the_log_gives_the_rows_of_the_fold(
    mysql_url: str, database: Inspector, log: LogBuilder, data: st.DataObject
) -> None:
    project(mysql_url, database, log, [[record] for record in log.records()])
    one_by_one = database.dump()
    for row in one_by_one["requests"]:
        assert shown(row) == expected(log, row["id"])
    assert {row["id"] for row in one_by_one["requests"]} == ids_in(log)

    project(mysql_url, database, log, data.draw(readings(log)))
    assert database.dump() == one_by_one


@st.composite
def readings(draw: st.DrawFn, log: LogBuilder) -> list[list[Record]]:
    """Batches as some projector might see them: partitions interleaved, with steps back after restarts.

    A step back repeats what was applied before, as a projector would whose positions had been set back.
    """
    positions = dict.fromkeys(log.logs, 0)
    batches: list[list[Record]] = []
    while waiting := [each for each in sorted(log.logs) if positions[each] < len(log.logs[each])]:
        batch: list[Record] = []
        for place in draw(st.lists(st.sampled_from(waiting), min_size=1, max_size=6)):
            batch += log.logs[place][positions[place] : positions[place] + 1]
            positions[place] = min(positions[place] + 1, len(log.logs[place]))
        batches.append(batch)
        if batches and draw(st.integers(0, 4)) == 0 and len(batches) < 20:
            place = draw(st.sampled_from(sorted(log.logs)))
            positions[place] = draw(st.integers(0, positions[place]))
    return batches


def project(url: str, database: Inspector, log: LogBuilder, batches: list[list[Record]]) -> None:
    database.clear()

    async def run() -> None:
        async with projection_session(settings_of(url), PROJECTOR) as session:
            await register(session, log)
            for batch in batches:
                set_back(database, batch)
                await apply(session, [batch])

    asyncio.run(run())


def set_back(database: Inspector, batch: list[Record]) -> None:
    """Move the stored positions to where the batch starts."""
    starts: dict[Partition, int] = {}
    for record in batch:
        starts.setdefault(Partition(record.topic, record.partition), record.offset)
    for place, start in starts.items():
        database.fetch(
            f"UPDATE projection_offsets SET next_offset = {start} "  # noqa: S608
            f"WHERE topic = '{place.topic}' AND partition_no = {place.number}"
        )


def understood(log: LogBuilder) -> list[Understood]:
    found = [interpret(topic_of(record), record) for record in log.records()]
    return [each for each in found if isinstance(each, Understood)]


def ids_in(log: LogBuilder) -> set[str]:
    return {each.request_id for each in understood(log) if each.request_id is not None}


def expected(log: LogBuilder, request_id: str) -> dict[str, Any]:
    """What the folds make of a request's records: submissions by time, the rest in the order of the log."""
    mine = [each for each in understood(log) if each.request_id == request_id]
    in_order = sorted(mine, key=lambda each: facts_key(each.topic, each.record))
    submitted = [each.event for each in in_order if isinstance(each.event, RequestSubmitted)]
    computed = [each.event for each in mine if isinstance(each.event, RequestStarted | Outcome)]
    request = reduce(requests.evolve, [*submitted, *computed], requests.EMPTY_REQUEST)
    facts = [each.event for each in mine if isinstance(each.event, CallbackEvent)]
    callback = reduce(callbacks.evolve, facts, callbacks.EMPTY_CALLBACK)
    outcome, started = request.outcome, request.started
    return {
        "status": request.status,
        "submitted": None if request.submitted is None else request.submitted.digest,
        "source": "/consuma/ingest" if request.submitted else "rest",
        "started_at_ms": started.started_at_ms if started else None,
        "attempts": outcome.attempts if outcome else None,
        "finished_at_ms": outcome.finished_at_ms if outcome else None,
        "error_code": outcome.error.code if isinstance(outcome, RequestFailed) else None,
        "delivery": callback.status if facts else None,
        "delivery_attempts": callback.attempts if facts else 0,
        "replay_count": callback.replay_count,
    }


def shown(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "status": row["status"],
        "submitted": row["digest"],
        "source": row["source"],
        "started_at_ms": row["started_at_ms"],
        "attempts": row["attempts"],
        "finished_at_ms": row["finished_at_ms"],
        "error_code": row["error_code"],
        "delivery": row["delivery"],
        "delivery_attempts": row["delivery_attempts"] or 0,
        "replay_count": row["replay_count"] or 0,
    }
