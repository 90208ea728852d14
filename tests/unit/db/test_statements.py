"""Statements: the server's dialect, bounded size, and the guard of each group last."""

import pytest

from shared.db import columns
from shared.db.errors import InvalidCursorError
from shared.db.filters import PageStart, RequestFilter, choose_index, open_cursor, seal_cursor
from shared.db.interpret import interpret
from shared.db.rows import rows_of
from shared.db.tables import metadata
from shared.db.upsert import STATEMENT_BYTES, flavour_of, statements
from shared.db.writer import _lock_name
from shared.domain.callbacks import CallbackStatus
from shared.domain.requests import RequestStatus
from shared.domain.types import Mode
from shared.kafka.topics import Topic
from tests.support.log_builder import LogBuilder, topic_of
from tests.support.requests import live, succeed


@pytest.mark.parametrize(
    ("version", "alias"),
    [
        ("11.4.5-MariaDB", ""),
        ("10.11.6-MariaDB-0+deb12u1", ""),
        ("5.5.5-10.11.6-MariaDB", ""),
        ("8.0.18", ""),
        ("8.0.19", " AS new"),
        ("8.4.3-0ubuntu1", " AS new"),
        ("9.7.4", " AS new"),
    ],
)
def test_the_new_row_is_named_as_the_server_wants_it(version: str, alias: str) -> None:
    assert flavour_of(version).alias == alias


def test_a_long_batch_becomes_several_statements() -> None:
    log = LogBuilder()
    for number in range(6):
        succeed(log, number, result=f'"{"x" * (STATEMENT_BYTES // 2)}"')
    rows = rows_of([interpret(Topic.RESULTS, record) for record in log.records()])
    sizes = [len(each) for each in statements(rows, flavour_of("9.7.4"), repr) if "request_events" in each]
    assert len(sizes) == 3
    assert max(sizes) < 2 * STATEMENT_BYTES


def test_rows_fit_their_columns_and_come_in_the_order_of_the_key() -> None:
    log = LogBuilder()
    for number in range(50):
        live(log, number)
    rows = rows_of([interpret(topic_of(record), record) for record in reversed(log.records())])
    assert rows.requests == sorted(rows.requests, key=lambda row: str(row[0]))
    assert rows.events == sorted(rows.events, key=lambda row: row[:3])
    assert {len(row) for row in rows.requests} == {len(columns.REQUEST_COLUMNS)}
    assert {len(row) for row in rows.events} == {len(columns.EVENT_COLUMNS)}
    assert {len(row) for row in rows.attempts} == {len(columns.ATTEMPT_COLUMNS)}


def test_guards_are_the_last_of_their_group_and_columns_exist() -> None:
    groups = {
        "requests": (
            columns.FACTS_COLUMNS,
            columns.STARTED_COLUMNS,
            columns.OUTCOME_COLUMNS,
            columns.DELIVERY_COLUMNS,
        ),
        "dead_letters": (columns.CLOSURE_COLUMNS,),
    }
    for table, of_table in groups.items():
        for group in of_table:
            assert group[-1].endswith("_key")
            assert set(group) <= {column.name for column in metadata.tables[table].columns}


@pytest.mark.parametrize(
    ("asked", "index", "backed"),
    [
        (RequestFilter(), "accepted", True),
        (RequestFilter(since_ms=1, until_ms=2), "accepted", True),
        (RequestFilter(mode=Mode.SYNC), "mode", True),
        (RequestFilter(mode=Mode.ASYNC, status=RequestStatus.FAILED), "mode_status", True),
        (RequestFilter(mode=Mode.ASYNC, callback_status=CallbackStatus.FAILED), "callback_status", True),
        (RequestFilter(operation="o"), "operation", True),
        (RequestFilter(source="s"), "source", True),
        (RequestFilter(operation="o", source="s"), "operation", False),
        (RequestFilter(operation="o", status=RequestStatus.FAILED), "status", False),
        (RequestFilter(operation="o", status=RequestStatus.SUCCEEDED), "operation", False),
        (RequestFilter(source="s", callback_status=CallbackStatus.FAILED), "callback_status", False),
    ],
    ids=str,
)
def test_each_filter_has_its_index(asked: RequestFilter, index: str, *, backed: bool) -> None:
    choice = choose_index(asked)
    assert (choice.name, choice.backed) == (f"ix_requests_{index}", backed)


def test_a_cursor_opens_for_its_filter_only() -> None:
    asked = RequestFilter(mode=Mode.SYNC, since_ms=5)
    start = PageStart(1_700_000_000_000, "3f0f3c0e-6c0a-5d3b-9d6e-2f6a1b7c8d90")
    cursor = seal_cursor(start, asked)
    assert open_cursor(cursor, asked) == start
    for other in (RequestFilter(), RequestFilter(mode=Mode.SYNC), RequestFilter(mode=Mode.ASYNC, since_ms=5)):
        with pytest.raises(InvalidCursorError):
            open_cursor(cursor, other)
    for index in range(len(cursor)):
        spoiled = cursor[:index] + ("A" if cursor[index] != "A" else "B") + cursor[index + 1 :]
        with pytest.raises(InvalidCursorError):
            open_cursor(spoiled, asked)


def test_lock_names_fit_and_differ() -> None:
    long = [_lock_name(f"consuma.projector.{'d' * 60}.{name}") for name in ("live", "shadow")]
    assert len(set(long)) == 2
    assert {len(name) for name in long} == {64}
    assert _lock_name("consuma.projector.consuma.live") == "consuma.projector.consuma.live"
