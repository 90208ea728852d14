"""Reading from the database: a pool, and a deadline on every use of it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Final, TypeVar

import pymysql
import structlog
from sqlalchemy import Executable, RowMapping
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from shared.db.connection import connect_arguments
from shared.db.errors import DatabaseAwayError, QueryTimeoutError, translated
from shared.settings import DatabaseSettings

__all__ = ["Database", "Reader", "open_database"]

log = structlog.get_logger()

POOL_SIZE: Final = 5
POOL_OVERFLOW: Final = 10
CLOSE_TIMEOUT_S: Final = 2.0

T = TypeVar("T")


class Reader:
    """A connection for the queries of one answer."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def fetch(self, statement: Executable) -> Sequence[RowMapping]:
        """The rows of a query."""
        return (await self._connection.execute(statement)).mappings().all()


class Database:
    """The read side for readers. Connects when first asked, and again after the database was away."""

    def __init__(self, settings: DatabaseSettings) -> None:
        self._timeout_s = settings.query_timeout_ms / 1000
        url = settings.mysql.get_secret_value()
        self._engine: AsyncEngine = create_async_engine(
            url,
            isolation_level="AUTOCOMMIT",
            pool_size=POOL_SIZE,
            max_overflow=POOL_OVERFLOW,
            connect_args=connect_arguments(url),
        )

    async def read(self, answer: Callable[[Reader], Awaitable[T]]) -> T:
        """What `answer` makes of its queries, which together have one deadline.

        A connection that had died unnoticed in the pool is replaced, once: reading twice harms nobody.

        Raises:
            QueryTimeoutError: the deadline has passed.
            DatabaseAwayError: the database does not answer.
        """
        try:
            async with asyncio.timeout(self._timeout_s):
                try:
                    return await self._read(answer)
                except _StaleConnectionError:
                    return await self._read(answer)
        except TimeoutError:
            raise QueryTimeoutError(
                f"the database did not answer within {self._timeout_s * 1000:.0f} ms"
            ) from None

    async def _read(self, answer: Callable[[Reader], Awaitable[T]]) -> T:
        with _translated():
            async with self._engine.connect() as connection:
                return await answer(Reader(connection))

    async def close(self) -> None:
        """Close the pool, for at most a moment."""
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                await self._engine.dispose()
        except (TimeoutError, SQLAlchemyError, OSError) as error:
            log.warning("database.close_failed", error=repr(error))


@asynccontextmanager
async def open_database(settings: DatabaseSettings) -> AsyncIterator[Database]:
    """A database that is closed at the end."""
    database = Database(settings)
    try:
        yield database
    finally:
        await database.close()


class _StaleConnectionError(DatabaseAwayError):
    """The pool handed out a connection whose server had gone."""


@contextmanager
def _translated() -> Iterator[None]:
    try:
        with translated():
            try:
                yield
            except DBAPIError as error:
                if error.connection_invalidated:
                    raise _StaleConnectionError(f"the database hung up: {error.orig}") from error
                raise (error.orig if isinstance(error.orig, pymysql.err.MySQLError) else error) from error
    except SQLAlchemyError as error:
        raise DatabaseAwayError(f"the database cannot be used: {error}") from error
