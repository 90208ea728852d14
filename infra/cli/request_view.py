"""A request as a person reads it in a terminal."""

import json
from typing import Any, Final

from rich.table import Table
from rich.text import Text

from infra.cli.api import console

__all__ = ["print_request"]

SHOWN_TEXT: Final = 2_000
_SEPARATE: Final = ("events", "callback_attempts")


def print_request(answer: dict[str, Any]) -> None:
    """Every field that says something, then the steps and the calls of the receiver."""
    out = console()
    fields = Table(show_header=False, box=None)
    for name, value in answer.items():
        if name not in _SEPARATE and value not in (None, False):
            fields.add_row(Text(name, style="bold"), _text(value))
    out.print(fields)
    if answer.get("events"):
        table = _folding("at", "event", "where", "note")
        for each in answer["events"]:
            note = "superseded" if each["superseded"] else each["note"] or each["anomaly"] or ""
            where = f"{each['topic']}-{each['partition']}-{each['offset']}"
            table.add_row(each["at"], each["type"], where, note)
        out.print(table, markup=False)
    if answer.get("callback_attempts"):
        table = _folding("at", "attempt", "outcome", "status", "ms", "message", "next")
        for each in answer["callback_attempts"]:
            status, retry_at = each["http_status"], each["retry_at"]
            table.add_row(
                each["at"],
                str(each["attempt"]),
                each["outcome"],
                "" if status is None else str(status),
                f"{each['duration_ms']:.0f}",
                each["message"] or each["error_class"] or "",
                retry_at or "",
            )
        out.print(table, markup=False)


def _folding(*columns: str) -> Table:
    """A table that breaks long values, so that they can be copied."""
    table = Table()
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _text(value: object) -> Text:
    shown = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return Text(shown if len(shown) <= SHOWN_TEXT else f"{shown[:SHOWN_TEXT]}… ({len(shown)} characters)")
