"""A session of the database is kept alive while records are decoded, and written in portions."""

import asyncio
from collections.abc import Mapping
from typing import cast

import pytest

from services.projector.handlers import Projector
from services.projector.log_source import LogSource
from services.projector.portions import Fetched
from services.projector.settings import ProjectorSettings
from shared.db.batches import Batch, Move
from shared.db.errors import DatabaseAwayError
from shared.db.interpret import Interpretation, Skipped
from shared.db.writer import ProjectionSession
from shared.kafka.records import Partition, Record
from shared.kafka.topics import Topic

PLACE = Partition("t", 0)


class Session:
    """In place of a session: counts its checks, and may be lost at the second."""

    def __init__(self, *, lost: bool = False) -> None:
        self.checked = asyncio.Event()
        self.events: list[str] = []
        self._lost = lost

    async def check(self) -> None:
        self.events.append("check")
        if self.events.count("check") == 2:
            self.checked.set()
            if self._lost:
                raise DatabaseAwayError("gone")

    async def write(self, batch: Batch) -> None:
        self.events.append(f"write {batch.moves[PLACE].end}")


class Source:
    """In place of the log."""

    def topic(self, _: Record) -> Topic:
        return Topic.REQUESTS


def fetched() -> Fetched:
    records = [Record("t", 0, offset, 0, None, b"x" * 100) for offset in range(4)]
    moves: Mapping[Partition, Move] = {PLACE: Move(0, 4)}
    return Fetched(records=records, moves=moves)


def projector(monkeypatch: pytest.MonkeyPatch, session: Session) -> Projector:
    """Two records a portion; the first record is decoded once the session was checked twice."""

    async def interpret(topic: Topic, record: Record) -> Interpretation:
        session.events.append(f"decode {record.offset}")
        if record.offset == 0:
            await session.checked.wait()
            await asyncio.sleep(0)
        return Skipped(record)

    made = Projector(ProjectorSettings(batch_bytes=150, write_timeout_ms=100))
    monkeypatch.setattr(made._interpreter, "interpret", interpret)
    return made


async def apply(made: Projector, session: Session) -> None:
    async with asyncio.timeout(10):
        await made._apply(
            cast(ProjectionSession, session), cast(LogSource, Source()), fetched(), asyncio.Event()
        )


async def test_portions_are_written_as_they_are_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    session = Session()
    await apply(projector(monkeypatch, session), session)
    assert session.events[:3] == ["decode 0", "check", "check"]
    assert [each for each in session.events if each != "check"] == [
        "decode 0",
        "decode 1",
        "write 2",
        "decode 2",
        "decode 3",
        "write 4",
    ]


async def test_a_lost_session_ends_the_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    session = Session(lost=True)
    with pytest.raises(DatabaseAwayError):
        await apply(projector(monkeypatch, session), session)
    assert not [each for each in session.events if each.startswith("write")]
    assert len(asyncio.all_tasks()) == 1
