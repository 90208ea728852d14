"""Looking at the broker and the database that the services are going to use."""

import logging
from collections.abc import Iterator
from typing import Final

import pymysql
from aiokafka.errors import KafkaError
from alembic.script import ScriptDirectory
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError

from infra.local.doctor import Finding, Level
from shared.db.migrate import MIGRATIONS, current_revision
from shared.kafka import topic_status
from shared.kafka.topics import topic_name, topic_table
from shared.settings import KafkaSettings

__all__ = ["database_findings", "log_findings"]

CONNECT_TIMEOUT_S: Final = 5


async def log_findings(settings: KafkaSettings, *, expected: bool) -> list[Finding]:
    """The broker and the topics. Where no broker is `expected` to run, none is no problem."""
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # what it retries is no news to a person
    try:
        statuses = await topic_status.show(settings)
    except (KafkaError, TimeoutError, OSError) as error:
        return [_away("Kafka", f"{settings.kafka} does not answer ({error!r})", expected=expected)]
    found = [Finding(Level.OK, "Kafka", f"{settings.kafka} answers")]
    names = {each.name for each in statuses}
    missing = [
        name for spec in topic_table(settings) if (name := topic_name(settings, spec.topic)) not in names
    ]
    lacking = {group for each in statuses for group in each.groups if each.lag(group) is None}
    if missing or lacking:
        text = f"missing topics: {len(missing)} of {len(topic_table(settings))}"
        text += f"; groups without a position: {', '.join(sorted(lacking)) or 'none'}"
        return [*found, Finding(Level.PROBLEM, "topics", text, "run `consuma topics apply`")]
    records = sum(each.records for each in statuses)
    text = f"{len(statuses)} topics {settings.topic_prefix}*, {records} records"
    return [*found, Finding(Level.OK, "topics", text)]


def database_findings(url: str, *, expected: bool) -> Iterator[Finding]:
    """The server and the schema. Where no server is `expected` to run, none is no problem."""
    target = make_url(url)
    shown = target.render_as_string(hide_password=True)
    try:
        version = _server_version(url)
    except (pymysql.err.MySQLError, OSError) as error:
        yield _away("database", f"{shown} refuses or does not answer ({error})", expected=expected)
        return
    yield Finding(Level.OK, "database", f"{version} at {shown}")
    try:
        current, head = current_revision(url), ScriptDirectory(str(MIGRATIONS)).get_current_head()
    except SQLAlchemyError as error:
        cause = getattr(error, "orig", None) or error
        yield Finding(Level.PROBLEM, "schema", str(cause), "run `consuma migrate`")
        return
    if current != head:
        text = f"at version {current or 'none'} instead of {head}"
        yield Finding(Level.PROBLEM, "schema", text, "run `consuma migrate`")
        return
    yield Finding(Level.OK, "schema", f"at version {current}")


def _server_version(url: str) -> str:
    target = make_url(url)
    connection = pymysql.connect(
        host=target.host,
        port=target.port or 3306,
        user=target.username,
        password=target.password or "",
        connect_timeout=CONNECT_TIMEOUT_S,
        read_timeout=CONNECT_TIMEOUT_S,
    )
    with connection, connection.cursor() as cursor:
        cursor.execute("SELECT VERSION()")
        return str((cursor.fetchone() or ("",))[0])


def _away(subject: str, text: str, *, expected: bool) -> Finding:
    if expected:
        return Finding(Level.PROBLEM, subject, text, "start it, or correct CONSUMA_KAFKA and CONSUMA_MYSQL")
    return Finding(Level.NOTE, subject, text, "nothing: `consuma up` starts one")
