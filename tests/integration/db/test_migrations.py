"""The migrations make what the tables say, from nothing, at once and again."""

import asyncio
import secrets
from collections.abc import Iterator

import pytest
from sqlalchemy import create_engine
from sqlalchemy.engine import URL

from shared.db.migrate import current_revision, upgrade
from shared.db.tables import metadata
from tests.conftest import drop_database
from tests.integration.db.support import Inspector

pytestmark = pytest.mark.mysql


@pytest.fixture
def fresh(mysql_server: URL) -> Iterator[str]:
    name = f"consuma_test_{secrets.token_hex(4)}"
    yield mysql_server.set(database=name).render_as_string(hide_password=False)
    drop_database(mysql_server, name)


async def test_many_migrate_at_once_and_again(fresh: str) -> None:
    await asyncio.gather(*(asyncio.to_thread(upgrade, fresh) for _ in range(4)))
    upgrade(fresh)
    assert current_revision(fresh) == "0001"


def test_a_migration_that_was_cut_short_is_finished(fresh: str) -> None:
    upgrade(fresh)
    inspector = Inspector(fresh)
    inspector.fetch("DROP TABLE dead_letters, replay_jobs")
    inspector.fetch("DELETE FROM alembic_version")
    upgrade(fresh)
    assert inspector.rows("dead_letters") == []
    inspector.close()


def test_the_schema_is_what_queries_are_built_from(fresh: str, mysql_url: str) -> None:
    upgrade(fresh)
    migrated = Inspector(fresh)
    wanted = {table: _shape(migrated, table) for table in metadata.tables}
    migrated.fetch(f"DROP TABLE {', '.join(metadata.tables)}")
    engine = create_engine(fresh.replace("+aiomysql", "+pymysql"))
    metadata.create_all(engine)
    engine.dispose()
    assert {table: _shape(migrated, table) for table in metadata.tables} == wanted
    migrated.close()


def _shape(inspector: Inspector, table: str) -> list[str]:
    """Columns in their order, then keys, which may come in any."""
    [row] = inspector.fetch(f"SHOW CREATE TABLE {table}")
    lines = [line.strip().rstrip(",") for line in row["Create Table"].splitlines()]
    keys = sorted(line for line in lines if " KEY " in f" {line}")
    return [*(line for line in lines if line not in keys), *keys]
