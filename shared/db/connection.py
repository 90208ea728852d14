"""The one connection of a writer: a typed shell around the driver, with every server made equally strict."""

import asyncio
import ssl
from collections.abc import Sequence
from typing import Any, Final

import aiomysql
from sqlalchemy.dialects.mysql.aiomysql import MySQLDialect_aiomysql
from sqlalchemy.engine import make_url

from shared.db.columns import Value
from shared.db.errors import DatabaseAwayError, translated

__all__ = ["WriterConnection", "connect_arguments"]

CONNECT_TIMEOUT_S: Final = 5.0
LOCK_LIMIT_S: Final = 5
LEAST_PACKET_BYTES: Final = 16 * 1024 * 1024
"""What the largest record of the log may take as one statement."""

SESSION: Final = (
    "SET SESSION sql_mode = 'STRICT_TRANS_TABLES,NO_ZERO_IN_DATE,NO_ZERO_DATE,ERROR_FOR_DIVISION_BY_ZERO,"
    "NO_ENGINE_SUBSTITUTION'",
    f"SET SESSION innodb_lock_wait_timeout = {LOCK_LIMIT_S}",
    "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED",
)
"""Strict in the same way on every server; no gap locks where none are needed."""


def connect_arguments(url: str) -> dict[str, Any]:
    """What the driver is to connect with, from a SQLAlchemy URL; `ssl_ca=…` in its query demands TLS."""
    arguments = dict(MySQLDialect_aiomysql().create_connect_args(make_url(url))[1])
    tls = arguments.pop("ssl", None)
    if tls is not None:
        arguments["ssl"] = ssl.create_default_context(cafile=tls.get("ca"), capath=tls.get("capath"))
    return {"charset": "utf8mb4", **arguments}


class WriterConnection:
    """A connection that nobody shares; after an error other than a conflict it is to be closed."""

    def __init__(self, raw: Any) -> None:  # noqa: ANN401 - the driver is untyped
        self._raw = raw
        self.server_version = ""

    @classmethod
    async def open(cls, url: str, *, idle_limit_s: int) -> "WriterConnection":
        """Connect. The server ends a session that is silent for longer than `idle_limit_s`.

        Who is silent for so long hangs, and the session's locks are needed by somebody who does not.

        Raises:
            DatabaseAwayError: the server does not answer, refuses, or is set up unfit for the log's records.
        """
        with translated():
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                connection = cls(await aiomysql.connect(**connect_arguments(url), autocommit=True))
                try:
                    await connection._prepare(idle_limit_s)
                except BaseException:
                    connection.close()
                    raise
                return connection

    async def _prepare(self, idle_limit_s: int) -> None:
        for statement in (*SESSION, f"SET SESSION wait_timeout = {idle_limit_s}"):
            await self.execute(statement)
        [(version, packet_bytes)] = await self.fetch("SELECT VERSION(), @@max_allowed_packet")
        if int(packet_bytes or 0) < LEAST_PACKET_BYTES:
            raise DatabaseAwayError(
                f"max_allowed_packet is {packet_bytes}: a large result would not fit; "
                f"set it to {LEAST_PACKET_BYTES} or more on the server"
            )
        self.server_version = str(version)

    async def execute(self, statement: str) -> None:
        """Run a statement that returns nothing."""
        await self.fetch(statement)

    async def fetch(self, statement: str) -> Sequence[tuple[Value, ...]]:
        """Run a statement and return its rows."""
        with translated():
            cursor = await self._raw.cursor()
            await cursor.execute(statement)
            rows: Sequence[tuple[Value, ...]] = await cursor.fetchall() if cursor.description else ()
            await cursor.close()
            return rows

    def literal(self, value: Value) -> str:
        """`value` as it is written in a statement."""
        text: str = self._raw.escape(value)
        return text

    def close(self) -> None:
        """Hang up at once; the server rolls back what was not committed."""
        self._raw.close()
