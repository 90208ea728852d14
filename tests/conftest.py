"""Where the real broker and the real database of the tests are.

Given by option, else containers where Docker answers, else the embedded stack; started when a test first
needs them and ended with the session. Workers of one session (`-n 4`) share them.
"""

import gc
import os
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pymysql
import pytest
from sqlalchemy.engine import URL

from shared.db.migrate import upgrade
from tests.fixtures.stores import Store, database_name, kafka_store, mysql_store, server_of

if TYPE_CHECKING:
    from xdist.workermanage import WorkerController

STORES = pytest.StashKey[dict[str, Store]]()
SHARED = pytest.StashKey[dict[str, str]]()
KAFKA, MYSQL = "kafka_address", "mysql_server"


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

    group.addoption(
        "--stack",
        default=os.environ.get("CONSUMA_TEST_STACK", "auto"),
        choices=("auto", "containers", "embedded"),
        help="what is started where none is given; auto: containers if Docker answers (CONSUMA_TEST_STACK)",
    )


def pytest_configure(config: pytest.Config) -> None:
    kind = str(config.getoption("--stack"))
    given = getattr(config, "workerinput", {})
    config.stash[STORES] = {
        KAFKA: kafka_store(given.get(KAFKA) or str(config.getoption("--kafka")), kind),
        MYSQL: mysql_store(given.get(MYSQL) or str(config.getoption("--mysql")), kind),
    }
    config.stash[SHARED] = {}


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: "WorkerController") -> None:
    """Start what the workers share before the first of them, and tell each where it is."""
    config: pytest.Config = node.config
    shared = config.stash[SHARED]
    for name, store in config.stash[STORES].items():
        if name not in shared:
            store.fetch()
            shared[name] = store.start(Path(tempfile.mkdtemp(prefix=f"consuma-{name}-")))
    node.workerinput.update(shared)


def pytest_unconfigure(config: pytest.Config) -> None:
    for name in config.stash.get(SHARED, {}):
        config.stash[STORES][name].end()


def pytest_report_header(config: pytest.Config) -> list[str]:
    stores = config.stash[STORES]
    return [f"broker: {stores[KAFKA].headline}", f"database: {stores[MYSQL].headline}"]


def pytest_collection_finish(session: pytest.Session) -> None:
    """Fetch before the first test, whose time limit is not meant for downloads."""
    needed = {name for item in session.items for name in getattr(item, "fixturenames", ())}
    capture = session.config.pluginmanager.getplugin("capturemanager")
    for name, store in session.config.stash[STORES].items():
        if name in needed and not session.config.option.collectonly:
            with capture.global_and_fixture_disabled():
                store.fetch()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Cut off while it connects, the Kafka client forgets the connection that it is just making."""
    for item in items:
        if _forgets_sockets(item):
            item.add_marker(pytest.mark.filterwarnings("ignore::ResourceWarning"))


@pytest.hookimpl(wrapper=True, trylast=True)
def pytest_runtest_teardown(item: pytest.Item) -> Iterator[None]:
    """Have what was dropped collected with its test, lest some later one fails for it.

    What is forgotten in any other test still fails that one.
    """
    yield
    if _forgets_sockets(item):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            gc.collect()


def _forgets_sockets(item: pytest.Item) -> bool:
    """Whether a client of Kafka may be cut off while it connects: a bounded wait may always end just then."""
    return "broker" in getattr(item, "fixturenames", ()) or any(
        item.get_closest_marker(name) is not None for name in ("kafka", "outage")
    )


@pytest.fixture(scope="session")
def kafka_address(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a running broker."""
    store = pytestconfig.stash[STORES][KAFKA]
    yield store.start(tmp_path_factory.mktemp("kafka"))
    store.end()


@pytest.fixture(scope="session")
def mysql_server(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Iterator[URL]:
    """A running server; its URL names no database of ours."""
    store = pytestconfig.stash[STORES][MYSQL]
    yield server_of(store.start(tmp_path_factory.mktemp("database")))
    store.end()


@pytest.fixture(scope="session")
def mysql_url(mysql_server: URL) -> Iterator[str]:
    """A migrated database of this session, dropped at its end."""
    name = database_name()
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
