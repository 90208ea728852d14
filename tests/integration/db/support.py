"""Applying records of a built log to a database, and looking at what came of it."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pymysql
from pydantic import SecretStr
from sqlalchemy.engine import make_url

from shared.db.batches import Batch, Move
from shared.db.interpret import interpret
from shared.db.writer import ProjectionSession
from shared.kafka.records import Partition, Record
from shared.settings import DatabaseSettings
from tests.support.log_builder import LogBuilder, topic_of

TABLES = ("requests", "request_events", "callback_attempts", "dead_letters")
PROJECTOR = "test"


def settings_of(url: str, **limits_ms: int) -> DatabaseSettings:
    return DatabaseSettings(mysql=SecretStr(url)).model_copy(update=limits_ms)


def batch_of(records: Sequence[Record], positions: Mapping[Partition, int]) -> Batch:
    """A batch that starts at `positions`."""
    ends = dict(positions)
    for record in records:
        ends[Partition(record.topic, record.partition)] = record.offset + 1
    return Batch(
        entries=[interpret(topic_of(record), record) for record in records],
        moves={each: Move(positions[each], end) for each, end in ends.items() if end != positions[each]},
    )


async def apply(session: ProjectionSession, batches: Iterable[Sequence[Record]]) -> None:
    """Write batch after batch, from where the session's projector stands."""
    positions = await session.positions()
    for records in batches:
        if records:
            batch = batch_of(records, positions)
            await session.write(batch)
            positions |= {each: move.end for each, move in batch.moves.items()}


async def register(session: ProjectionSession, log: LogBuilder) -> None:
    await session.register(dict.fromkeys(log.logs, 0))


class Inspector:
    """A blocking connection beside the writer's."""

    def __init__(self, url: str) -> None:
        target = make_url(url)
        self._connection = pymysql.connect(
            host=target.host,
            port=target.port or 3306,
            user=target.username,
            password=target.password or "",
            database=target.database,
            charset="utf8mb4",
            autocommit=True,
            cursorclass=pymysql.cursors.DictCursor,
        )

    def fetch(self, statement: str) -> list[dict[str, Any]]:
        with self._connection.cursor() as cursor:
            cursor.execute(statement)
            return list(cursor.fetchall())

    def dump(self) -> dict[str, list[dict[str, Any]]]:
        """Every projected row, in a fixed order."""
        return {table: sorted(self.rows(table), key=repr) for table in TABLES}

    def rows(self, table: str) -> list[dict[str, Any]]:
        return self.fetch(f"SELECT * FROM {table}")  # noqa: S608 - a name of ours

    def clear(self) -> None:
        for table in (*TABLES, "projection_offsets"):
            self.fetch(f"DELETE FROM {table}")  # noqa: S608 - a name of ours

    def close(self) -> None:
        self._connection.close()
