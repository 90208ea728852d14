"""Where the real broker and the real database of the tests are."""

import os
import secrets
from collections.abc import Iterator

import pymysql
import pytest
from sqlalchemy.engine import URL, make_url

from shared.db.migrate import upgrade


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("consuma")
    group.addoption(
        "--kafka",
        default=os.environ.get("CONSUMA_TEST_KAFKA", ""),
        help="host:port of a broker for the tests (CONSUMA_TEST_KAFKA)",
    )
    group.addoption(
        "--mysql",
        default=os.environ.get("CONSUMA_TEST_MYSQL", ""),
        help="SQLAlchemy URL of an account that may create databases named consuma… (CONSUMA_TEST_MYSQL)",
    )


@pytest.fixture(scope="session")
def kafka_address(pytestconfig: pytest.Config) -> str:
    """Address of a running broker."""
    return str(pytestconfig.getoption("--kafka")) or "127.0.0.1:19092"


@pytest.fixture(scope="session")
def mysql_server(pytestconfig: pytest.Config) -> URL:
    """A running server; its URL names no database of ours."""
    return make_url(str(pytestconfig.getoption("--mysql")) or "mysql+aiomysql://root@127.0.0.1:13306/")


@pytest.fixture(scope="session")
def mysql_url(mysql_server: URL) -> Iterator[str]:
    """A migrated database of this session, dropped at its end."""
    name = f"consuma_test_{secrets.token_hex(4)}"
    url = mysql_server.set(database=name).render_as_string(hide_password=False)
    upgrade(url)
    yield url
    drop_database(mysql_server, name)


def drop_database(server: URL, name: str) -> None:
    connection = pymysql.connect(
        host=server.host,
        port=server.port or 3306,
        user=server.username,
        password=server.password or "",
    )
    with connection, connection.cursor() as cursor:
        cursor.execute(f"DROP DATABASE IF EXISTS `{name}`")
