"""When an id is found, waited for, unknown, or not to be told."""

import asyncio
import time
from collections.abc import Mapping

import pytest

from services.ingest.problems import NotVisibleYet, Overloaded, RequestNotFound
from services.ingest.settings import IngestSettings
from services.ingest.visibility import Visibility
from shared.db.errors import DatabaseAwayError
from shared.domain.requests import RequestStatus
from shared.kafka.records import Partition
from tests.support.waiting import until
from tests.unit.ingest.support import LogEnds, ReadSideTwin, view_of

ID = "5f0f3c0e-6c0a-4d3b-9d6e-2f6a1b7c8d90"
PLACE = Partition("requests", 0)


def visibility(read_side: ReadSideTwin, ends: LogEnds, **settings: int) -> Visibility:
    return Visibility(IngestSettings().model_copy(update=settings), read_side, ends)


async def test_what_is_there_is_found_without_asking_the_log() -> None:
    read_side, ends = ReadSideTwin(), LogEnds({PLACE: 5})
    read_side.rows[ID] = view_of(ID)
    assert (await visibility(read_side, ends).view(ID.upper())).id == ID
    assert ends.asked == 0


async def test_unknown_is_said_only_once_the_projection_has_passed_the_end() -> None:
    read_side, ends = ReadSideTwin(), LogEnds({PLACE: 5})
    read_side.positions = {PLACE: 4}
    asking = asyncio.create_task(visibility(read_side, ends).view(ID))
    await until(lambda: ends.asked == 1)
    assert not asking.done()
    read_side.positions = {PLACE: 5}
    with pytest.raises(RequestNotFound):
        await asking
    assert read_side.looks == 2


async def test_what_shows_meanwhile_is_found() -> None:
    read_side, ends = ReadSideTwin(), LogEnds({PLACE: 5})
    asking = asyncio.create_task(visibility(read_side, ends).view(ID))
    await until(lambda: ends.asked == 1)
    read_side.rows[ID] = view_of(ID)
    read_side.positions = {PLACE: 5}
    assert (await asking).id == ID


async def test_a_partition_that_is_not_projected_counts_as_its_beginning() -> None:
    read_side = ReadSideTwin()
    with pytest.raises(RequestNotFound):
        await visibility(read_side, LogEnds({PLACE: 0})).view(ID)
    with pytest.raises(NotVisibleYet):
        await visibility(read_side, LogEnds({PLACE: 1}), visibility_wait_ms=50).view(ID)


async def test_one_deadline_holds_for_everything_together() -> None:
    """The log hangs, though it was asked with a time limit: the caller is answered all the same."""

    class Hanging(LogEnds):
        async def __call__(self, timeout_s: float) -> Mapping[Partition, int]:
            await asyncio.Event().wait()
            raise AssertionError

    began = time.monotonic()
    with pytest.raises(NotVisibleYet):
        await visibility(ReadSideTwin(), Hanging({}), visibility_wait_ms=100).view(ID)
    assert time.monotonic() - began < 1


async def test_a_database_that_is_away_is_no_missing_request() -> None:
    read_side = ReadSideTwin()
    read_side.away = True
    with pytest.raises(DatabaseAwayError):
        await visibility(read_side, LogEnds({})).view(ID)


@pytest.mark.parametrize("text", ["", "x", ID[:-1], f"{ID}0"])
async def test_what_is_no_id_is_not_looked_for(text: str) -> None:
    read_side = ReadSideTwin()
    with pytest.raises(RequestNotFound):
        await visibility(read_side, LogEnds({})).detail(text, 5.0)
    assert read_side.looks == 0


async def test_waiting_ends_with_the_outcome() -> None:
    read_side = ReadSideTwin()
    read_side.rows[ID] = view_of(ID)
    waiting = asyncio.create_task(visibility(read_side, LogEnds({})).detail(ID, 30.0))
    await until(lambda: read_side.looks >= 2)
    assert not waiting.done()
    read_side.rows[ID] = view_of(ID, RequestStatus.FAILED)
    assert (await waiting).request.status is RequestStatus.FAILED


async def test_waiting_ends_with_its_time() -> None:
    read_side = ReadSideTwin()
    read_side.rows[ID] = view_of(ID)
    found = await visibility(read_side, LogEnds({})).detail(ID, 0.05)
    assert found.request.status is RequestStatus.ACCEPTED


async def test_so_many_may_wait_and_each_frees_its_place() -> None:
    read_side = ReadSideTwin()
    read_side.rows[ID] = view_of(ID)
    asked = visibility(read_side, LogEnds({}), max_polling=1)
    waiting = asyncio.create_task(asked.detail(ID, 30.0))
    await until(lambda: read_side.looks >= 2)
    with pytest.raises(Overloaded):
        await asked.detail(ID, 1.0)
    waiting.cancel()
    await asyncio.wait([waiting])
    assert (await asked.detail(ID, 0.02)).request.id == ID
