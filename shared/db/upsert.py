"""The statements of the projection, for MySQL and MariaDB alike.

A statement holds many rows. How it names the row that could not be inserted is all that differs between the
servers: `VALUES(c)` is deprecated in MySQL, an alias of the row is a syntax error in MariaDB. Assignments are
evaluated from left to right and see what was assigned before them: a group's guard column comes last.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from shared.db.columns import (
    ATTEMPT_COLUMNS,
    CLOSURE_COLUMNS,
    DELIVERY_COLUMNS,
    EVENT_COLUMNS,
    FACTS_COLUMNS,
    LETTER_COLUMNS,
    OUTCOME_COLUMNS,
    POSITION_COLUMNS,
    REQUEST_COLUMNS,
    STARTED_COLUMNS,
    Row,
    Value,
)
from shared.db.keys import DELIVERED_MARK
from shared.db.rows import BatchRows

__all__ = ["Flavour", "Upsert", "flavour_of", "render", "statements"]

STATEMENT_BYTES: Final = 1024 * 1024
"""A statement ends with the row that passes this size. One row of the largest record, every character
escaped, stays below MariaDB's default `max_allowed_packet` of 16 MiB."""

Assign = Callable[[Callable[[str], str]], Sequence[str]]
"""Assignments after ON DUPLICATE KEY UPDATE, given how a column of the new row is written."""


@dataclass(frozen=True, slots=True)
class Flavour:
    """How a server names the new row."""

    alias: str
    new: Callable[[str], str]


@dataclass(frozen=True, slots=True)
class Upsert:
    """An insert that resolves collisions of the primary key by `assign`."""

    table: str
    columns: Sequence[str]
    assign: Assign

    def head(self) -> str:
        """What precedes the rows."""
        return f"INSERT INTO {self.table} ({', '.join(self.columns)}) VALUES "  # noqa: S608 - names of ours

    def tail(self, flavour: Flavour) -> str:
        """What follows the rows."""
        return f"{flavour.alias} ON DUPLICATE KEY UPDATE {', '.join(self.assign(flavour.new))}"


ROW_ALIAS_SINCE: Final = (8, 0, 19)


def flavour_of(server_version: str) -> Flavour:
    """The flavour of a server by its `VERSION()`."""
    numbers = tuple(int(part) for part in server_version.split("-")[0].split(".")[:3])
    if "mariadb" in server_version.lower() or numbers < ROW_ALIAS_SINCE:
        return Flavour("", lambda column: f"VALUES({column})")
    return Flavour(" AS new", lambda column: f"new.{column}")


def render(
    upsert: Upsert, rows: Iterable[Row], flavour: Flavour, literal: Callable[[Value], str]
) -> Iterator[str]:
    """Statements that hold `rows`, values written by `literal`, each of about `STATEMENT_BYTES` at most."""
    head, tail = upsert.head(), upsert.tail(flavour)
    values: list[str] = []
    size = 0
    for row in rows:
        text = f"({','.join(map(literal, row))})"
        values.append(text)
        size += len(text)
        if size > STATEMENT_BYTES:
            yield head + ",".join(values) + tail
            values, size = [], 0
    if values:
        yield head + ",".join(values) + tail


def statements(rows: BatchRows, flavour: Flavour, literal: Callable[[Value], str]) -> Iterator[str]:
    """Every statement of a batch but for its offsets, in the order in which tables are locked."""
    for upsert, each in (
        (_REQUESTS, rows.requests),
        (_EVENTS, rows.events),
        (_ATTEMPTS, rows.attempts),
        (_LETTERS, rows.letters),
        (_CLOSURES, rows.closures),
    ):
        yield from render(upsert, each, flavour, literal)


def _guarded(table: str, condition: str, columns: Sequence[str], new: Callable[[str], str]) -> list[str]:
    """Assignments of a group's columns where the condition holds; the guard is the last of `columns`."""
    return [f"{column} = IF({condition}, {new(column)}, {table}.{column})" for column in columns]


def _assign_request(new: Callable[[str], str]) -> list[str]:
    facts = f"{new('facts_key')} < requests.facts_key"
    started = (
        f"{new('started_key')} IS NOT NULL"
        f" AND (requests.outcome_key IS NULL OR {new('started_key')} < requests.outcome_key)"
        f" AND (requests.started_key IS NULL OR {new('started_key')} > requests.started_key)"
    )
    outcome = (
        f"{new('outcome_key')} IS NOT NULL"
        f" AND (requests.outcome_key IS NULL OR {new('outcome_key')} < requests.outcome_key)"
    )
    return [
        *_guarded("requests", facts, FACTS_COLUMNS, new),
        *_guarded("requests", started, STARTED_COLUMNS, new),
        *_guarded("requests", outcome, OUTCOME_COLUMNS, new),
        *_assign_delivery(new),
    ]


def _assign_delivery(new: Callable[[str], str]) -> list[str]:
    condition = (
        f"{new('delivery_key')} IS NOT NULL AND (requests.delivery_key IS NULL"
        f" OR (requests.delivery_key < '{DELIVERED_MARK}'"
        f" AND {new('delivery_key')} > requests.delivery_key))"
    )
    kept = {"delivery_attempts", "replay_count"}
    assignments: list[str] = []
    for column in DELIVERY_COLUMNS:
        value = f"COALESCE({new(column)}, requests.{column})" if column in kept else new(column)
        assignments.append(f"{column} = IF({condition}, {value}, requests.{column})")
    return assignments


def _assign_nothing(table: str) -> Assign:
    """A row that is there already is the same row: records never change."""
    return lambda _: [f"record_offset = {table}.record_offset"]


def _assign_letter(new: Callable[[str], str]) -> list[str]:
    return [f"{column} = {new(column)}" for column in LETTER_COLUMNS[len(POSITION_COLUMNS) :]]


def _assign_closure(new: Callable[[str], str]) -> list[str]:
    condition = f"dead_letters.closed_key IS NULL OR {new('closed_key')} > dead_letters.closed_key"
    return _guarded("dead_letters", condition, CLOSURE_COLUMNS[len(POSITION_COLUMNS) :], new)


_REQUESTS: Final = Upsert("requests", REQUEST_COLUMNS, _assign_request)
_EVENTS: Final = Upsert("request_events", EVENT_COLUMNS, _assign_nothing("request_events"))
_ATTEMPTS: Final = Upsert("callback_attempts", ATTEMPT_COLUMNS, _assign_nothing("callback_attempts"))
_LETTERS: Final = Upsert("dead_letters", LETTER_COLUMNS, _assign_letter)
_CLOSURES: Final = Upsert("dead_letters", CLOSURE_COLUMNS, _assign_closure)
