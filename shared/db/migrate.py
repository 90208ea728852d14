"""Bring a database to the schema of this release: created when absent, safe to run twice at once."""

from pathlib import Path
from typing import Final

import structlog
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, create_engine, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.pool import NullPool

__all__ = ["MigrationLockedError", "current_revision", "upgrade"]

log = structlog.get_logger()

MIGRATIONS: Final = Path(__file__).parent / "migrations"
LOCK_WAIT_S: Final = 60
CONNECT_TIMEOUT_S: Final = 10
STATEMENT_TIMEOUT_S: Final = 600
"""Longest silence of the server: an index over millions of rows takes minutes."""


class MigrationLockedError(Exception):
    """Another process has been migrating this database for longer than anybody should wait."""


def upgrade(url: str, revision: str = "head") -> None:
    """Create the database if it is absent and apply every version that it lacks. Blocks.

    Args:
        url: SQLAlchemy URL of the database; its driver is replaced by a blocking one.
        revision: where to stop.

    Raises:
        MigrationLockedError: the lock was not free within a minute.
        sqlalchemy.exc.SQLAlchemyError: the server refused or did not answer.
    """
    target = make_url(url).set(drivername="mysql+pymysql")
    if not target.database:
        raise ValueError(f"the URL {target.render_as_string()} names no database")
    _create_database(target)
    with _connect(target) as connection:
        _lock(connection, target.database)
        config = Config()
        config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
        config.set_main_option("path_separator", "os")
        config.attributes["connection"] = connection
        before = _revision(connection)
        command.upgrade(config, revision)
        log.info("database.migrated", database=target.database, before=before, after=_revision(connection))


def current_revision(url: str) -> str | None:
    """The version that the database is at; None when it was never migrated. Blocks."""
    with _connect(make_url(url).set(drivername="mysql+pymysql")) as connection:
        return _revision(connection)


def _connect(url: URL) -> Connection:
    """One connection that commits each statement, as both servers do with schema changes anyway."""
    arguments = {
        "charset": "utf8mb4",
        "connect_timeout": CONNECT_TIMEOUT_S,
        "read_timeout": STATEMENT_TIMEOUT_S,
    }
    engine = create_engine(url, poolclass=NullPool, isolation_level="AUTOCOMMIT", connect_args=arguments)
    return engine.connect()


def _create_database(url: URL) -> None:
    """Only when it is absent: an account may well have the right to use it but not to create it."""
    with _connect(url.set(database="")) as connection:
        known = connection.execute(
            text("SELECT 1 FROM information_schema.schemata WHERE schema_name = :name"),
            {"name": url.database},
        ).first()
        if known is None:
            name = connection.dialect.identifier_preparer.quote_identifier(url.database or "")
            connection.execute(
                text(f"CREATE DATABASE IF NOT EXISTS {name} CHARACTER SET utf8mb4 COLLATE utf8mb4_bin")
            )


def _lock(connection: Connection, database: str) -> None:
    """Hold the lock until the connection ends. Lock names are global to the server: the database is in it."""
    name = f"consuma.migrate.{database}"[:64]
    got = connection.execute(
        text("SELECT GET_LOCK(:name, :wait_s)"), {"name": name, "wait_s": LOCK_WAIT_S}
    ).scalar()
    if got != 1:
        raise MigrationLockedError(
            f"another process has been migrating {database!r} for {LOCK_WAIT_S} s; "
            "see SHOW PROCESSLIST on the server, then run `consuma migrate` again"
        )


def _revision(connection: Connection) -> str | None:
    return MigrationContext.configure(connection).get_current_revision()
