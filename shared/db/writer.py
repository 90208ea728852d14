"""The projection writer: one batch of records and its positions in one transaction, or nothing.

One session writes at a time, the one that holds the projector's named lock. The lock belongs to the
connection, so it is free the moment the process dies, and not before the server has ended what the process
left behind: whoever gets it reads positions that are final, also after a COMMIT whose answer was lost.
What keeps the tables right is the fence: the transaction compares every stored position with the one that
the batch starts from.
"""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Final

import structlog
from sqlalchemy.engine import make_url

from shared.db.batches import Batch, Move
from shared.db.columns import Value
from shared.db.connection import WriterConnection
from shared.db.errors import (
    DatabaseAwayError,
    ProjectionFencedError,
    TransactionConflictError,
    translated,
)
from shared.db.rows import rows_of
from shared.db.upsert import flavour_of, statements
from shared.kafka.backoff import backoff_s
from shared.kafka.records import Partition
from shared.settings import DatabaseSettings

__all__ = ["ProjectionSession", "projection_session"]

log = structlog.get_logger()

LOCK_NAME_LENGTH: Final = 64


class ProjectionSession:
    """A connection that may write for one projector. After any error but a refusal it is to be left."""

    def __init__(self, connection: WriterConnection, settings: DatabaseSettings, projector: str) -> None:
        self._connection = connection
        self._timeout_s = settings.write_timeout_ms / 1000
        self._projector = projector
        self._flavour = flavour_of(connection.server_version)
        database = make_url(settings.mysql.get_secret_value()).database
        self._lock = _lock_name(f"consuma.projector.{database}.{projector}")

    async def acquire(self, wait_s: int) -> bool:
        """Try for `wait_s` seconds to become the one that writes.

        Raises:
            DatabaseAwayError: the server does not answer.
        """
        with translated():
            async with asyncio.timeout(self._timeout_s + wait_s):
                lock = self._connection.literal(self._lock)
                [(got,)] = await self._connection.fetch(f"SELECT GET_LOCK({lock}, {wait_s})")
        return got == 1

    async def positions(self) -> dict[Partition, int]:
        """Where to go on, for every partition that was ever read.

        Raises:
            DatabaseAwayError: the server does not answer.
        """
        projector = self._connection.literal(self._projector)
        statement = (
            "SELECT topic, partition_no, next_offset FROM projection_offsets "  # noqa: S608 - a literal
            f"WHERE projector = {projector}"
        )
        with translated():
            async with asyncio.timeout(self._timeout_s):
                return _positions(await self._connection.fetch(statement))

    async def register(self, starts: Mapping[Partition, int]) -> None:
        """Store where partitions that have no position yet begin; one that is stored stays.

        Raises:
            DatabaseAwayError: the server does not answer.
        """
        if not starts:
            return
        values = self._values([(self._projector, *each, start) for each, start in starts.items()])
        with translated():
            async with asyncio.timeout(self._timeout_s):
                await self._connection.execute(
                    "INSERT INTO projection_offsets (projector, topic, partition_no, next_offset) "  # noqa: S608
                    f"VALUES {values} "
                    "ON DUPLICATE KEY UPDATE next_offset = projection_offsets.next_offset"
                )

    async def check(self) -> None:
        """Keep the session from being taken for a dead one, and find out whether it is.

        Raises:
            DatabaseAwayError: the server does not answer.
        """
        with translated():
            async with asyncio.timeout(self._timeout_s):
                await self._connection.execute("SELECT 1")

    async def write(self, batch: Batch) -> None:
        """Apply `batch` and move the positions; runs again after deadlocks, within the deadline.

        Raises:
            ProjectionFencedError: a stored position is not where the batch starts.
            BatchRefusedError: the database refuses a value; the session can go on.
            DatabaseAwayError: it does not answer; whether the batch is in is told by the positions.
        """
        rows = rows_of(batch.entries)
        prepared = list(statements(rows, self._flavour, self._connection.literal))
        with translated():
            async with asyncio.timeout(self._timeout_s):
                for wait_s in backoff_s(first_s=0.01, cap_s=1.0):
                    try:
                        await self._transaction(prepared, batch.moves)
                    except TransactionConflictError as error:
                        log.info("projection.conflict", projector=self._projector, error=str(error))
                        await asyncio.sleep(wait_s)
                    else:
                        return

    async def _transaction(self, prepared: Sequence[str], moves: Mapping[Partition, Move]) -> None:
        await self._connection.execute("BEGIN")
        try:
            await self._fence(moves)
            for statement in prepared:
                await self._connection.execute(statement)
        except DatabaseAwayError:
            raise
        except Exception:
            await self._connection.execute("ROLLBACK")
            raise
        await self._connection.execute("COMMIT")

    async def _fence(self, moves: Mapping[Partition, Move]) -> None:
        """Lock, compare and move the stored positions: first of all, so that a loser loses early."""
        order = sorted(moves)
        places = self._values([tuple(each) for each in order])
        projector = self._connection.literal(self._projector)
        stored = _positions(
            await self._connection.fetch(
                "SELECT topic, partition_no, next_offset FROM projection_offsets "  # noqa: S608 - literals
                f"WHERE projector = {projector} AND (topic, partition_no) IN ({places}) FOR UPDATE"
            )
        )
        for each in order:
            if stored.get(each) != moves[each].start:
                raise ProjectionFencedError(each, moves[each].start, stored.get(each))
        new = self._flavour.new("next_offset")
        values = self._values([(self._projector, *each, moves[each].end) for each in order])
        await self._connection.execute(
            "INSERT INTO projection_offsets (projector, topic, partition_no, next_offset) "  # noqa: S608
            f"VALUES {values}{self._flavour.alias} ON DUPLICATE KEY UPDATE next_offset = {new}"
        )

    def _values(self, rows: Sequence[tuple[Value, ...]]) -> str:
        return ",".join(f"({','.join(map(self._connection.literal, row))})" for row in rows)


@asynccontextmanager
async def projection_session(settings: DatabaseSettings, projector: str) -> AsyncIterator[ProjectionSession]:
    """Connect for `projector`; the connection, and with it the lock, ends with the context.

    Raises:
        DatabaseAwayError: the server does not answer.
    """
    connection = await WriterConnection.open(
        settings.mysql.get_secret_value(), idle_limit_s=max(1, settings.write_timeout_ms // 1000)
    )
    try:
        yield ProjectionSession(connection, settings, projector)
    finally:
        connection.close()


def _positions(rows: Sequence[tuple[Value, ...]]) -> dict[Partition, int]:
    return {Partition(str(topic), int(number or 0)): int(offset or 0) for topic, number, offset in rows}


def _lock_name(name: str) -> str:
    """Names of locks are global to the server, and end at 64 characters in MySQL."""
    if len(name) <= LOCK_NAME_LENGTH:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:16]
    return f"{name[: LOCK_NAME_LENGTH - len(digest) - 1]}.{digest}"
