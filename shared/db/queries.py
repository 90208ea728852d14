"""The questions that the API asks of the read side."""

from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import ColumnElement, RowMapping, Select, and_, func, or_, select, union

from shared.db.database import Database, Reader
from shared.db.errors import FilterTooBroadError, QueryTimeoutError
from shared.db.filters import (
    MAX_LIMIT,
    PageStart,
    RequestFilter,
    choose_index,
    open_cursor,
    seal_cursor,
)
from shared.db.history import attempt_view, in_order, request_view, timeline_entry
from shared.db.keys import place_of, submission_of
from shared.db.tables import callback_attempts, projection_offsets, request_events, requests
from shared.db.views import RequestDetail, RequestPage, RequestView, StatusCount
from shared.domain.callbacks import CallbackStatus
from shared.domain.identity import canonical_uuid
from shared.domain.requests import Failure, RequestFailed, RequestStatus, RequestSubmitted, RequestSucceeded
from shared.domain.types import JsonText, Mode
from shared.events.codec import decode_as
from shared.kafka.records import Partition
from shared.kafka.topics import Topic, topic_name
from shared.settings import KafkaSettings

__all__ = ["LIVE_PROJECTOR", "RequestQueries"]

LIVE_PROJECTOR: Final = "live"
HISTORY_LIMIT: Final = 500
SHOWN_DATA_BYTES: Final = 16 * 1024
"""Longer data of a timeline entry is left out; what matters of it is in the detail itself."""


class RequestQueries:
    """Each method is one answer within the database's query deadline.

    All of them raise DatabaseAwayError, or its subclass QueryTimeoutError, when the database does not answer.
    """

    def __init__(self, database: Database, kafka: KafkaSettings) -> None:
        self._database = database
        self._kafka = kafka

    async def page(self, asked: RequestFilter, *, limit: int = 50, cursor: str | None = None) -> RequestPage:
        """At most `limit` (1 to 500) requests, newest first, from `cursor` on.

        Raises:
            InvalidCursorError: the cursor is damaged or belongs to other filters.
            FilterTooBroadError: no index backs the combination, and it took too long.
            ValueError: the limit is out of range.
        """
        if not 1 <= limit <= MAX_LIMIT:
            raise ValueError(f"limit must be between 1 and {MAX_LIMIT}")
        start = open_cursor(cursor, asked) if cursor else None
        statement = _page_statement(asked, start).limit(limit + 1)
        try:
            rows = await self._database.read(lambda reader: reader.fetch(statement))
        except QueryTimeoutError:
            if asked.q is None and not choose_index(asked).backed:
                raise FilterTooBroadError(
                    "these filters together took too long; add `since` and `until`, or leave one out"
                ) from None
            raise
        items = tuple(request_view(row) for row in rows[:limit])
        more = len(rows) > limit
        after = seal_cursor(PageStart(items[-1].accepted_at_ms, items[-1].id), asked) if more else None
        return RequestPage(items=items, next=after)

    async def request(self, request_id: str) -> RequestView | None:
        """One request without its history, or None when the read side does not know it."""
        statement = select(requests).where(requests.c.id == canonical_uuid(request_id))
        rows = await self._database.read(lambda reader: reader.fetch(statement))
        return request_view(rows[0]) if rows else None

    async def detail(self, request_id: str) -> RequestDetail | None:
        """One request with what was asked, what came of it and how; None when it is not known."""
        return await self._database.read(lambda reader: self._detail(reader, request_id))

    async def stats(self, *, since_ms: int, until_ms: int | None = None) -> tuple[StatusCount, ...]:
        """How many requests accepted in the window are in each state."""
        table = requests.c
        keys = (table.mode, table.status, table.callback_status)
        statement = (
            select(*keys, func.count().label("number"))
            .where(*_window(RequestFilter(since_ms=since_ms, until_ms=until_ms)))
            .group_by(*keys)
            .order_by(*keys)
        )
        rows = await self._database.read(lambda reader: reader.fetch(statement))
        return tuple(
            StatusCount(
                mode=Mode(row["mode"]),
                status=RequestStatus(row["status"]),
                callback_status=CallbackStatus(row["callback_status"]),
                count=row["number"],
            )
            for row in rows
        )

    async def projection_positions(self, projector: str = LIVE_PROJECTOR) -> dict[Partition, int]:
        """Up to where the log is visible here: the next offset of every partition that is projected."""
        table = projection_offsets.c
        statement = select(table.topic, table.partition_no, table.next_offset).where(
            table.projector == projector
        )
        rows = await self._database.read(lambda reader: reader.fetch(statement))
        return {Partition(row["topic"], row["partition_no"]): row["next_offset"] for row in rows}

    async def _detail(self, reader: Reader, request_id: str) -> RequestDetail | None:
        rows = await reader.fetch(select(requests).where(requests.c.id == canonical_uuid(request_id)))
        if not rows:
            return None
        request = rows[0]
        events = await reader.fetch(_events_statement(request["id"]))
        attempts = await reader.fetch(_attempts_statement(request["id"]))
        payloads = await self._payloads(reader, request)
        prefix = self._kafka.topic_prefix
        ordered = sorted(events[:HISTORY_LIMIT], key=lambda row: in_order(row, prefix))
        return RequestDetail(
            request=request_view(request),
            input=payloads.input,
            result=payloads.result,
            error=payloads.error,
            events=tuple(timeline_entry(row, request, prefix) for row in ordered),
            callback_attempts=tuple(attempt_view(row, request) for row in reversed(attempts[:HISTORY_LIMIT])),
            truncated=max(len(events), len(attempts)) > HISTORY_LIMIT,
        )

    async def _payloads(self, reader: Reader, request: RowMapping) -> "_Payloads":
        """What was asked and what came of it, from the records that count."""
        submission = submission_of(request["facts_key"])
        outcome_key = request["outcome_key"]
        asked = await self._data(reader, submission) if submission else None
        told = await self._data(reader, (Topic.RESULTS, *place_of(outcome_key))) if outcome_key else None
        submitted = decode_as(RequestSubmitted, asked) if asked else None
        succeeded = request["outcome"] == RequestStatus.SUCCEEDED
        return _Payloads(
            input=JsonText(str(submitted.input, "utf-8")) if submitted else None,
            result=decode_as(RequestSucceeded, told).result if told and succeeded else None,
            error=decode_as(RequestFailed, told).error if told and not succeeded else None,
        )

    async def _data(self, reader: Reader, place: tuple[Topic, int, int]) -> bytes | None:
        topic, partition, offset = place
        table = request_events.c
        rows = await reader.fetch(
            select(table.data).where(
                table.topic == topic_name(self._kafka, topic),
                table.partition_no == partition,
                table.record_offset == offset,
            )
        )
        return rows[0]["data"].encode() if rows else None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Payloads:
    input: JsonText | None
    result: JsonText | None
    error: Failure | None


def _page_statement(asked: RequestFilter, start: PageStart | None) -> Select[Any]:
    table = requests.c
    conditions = [table[column] == value for column, value in asked.equalities.items()]
    statement = select(requests).where(*conditions, *_window(asked), *_after(start))
    if asked.q is None:
        # The optimizer at times prefers the order of another index and reads it from end to end.
        statement = statement.with_hint(requests, f"FORCE INDEX ({choose_index(asked).name})")
    else:
        found = _found(asked)
        statement = statement.join(found, found.c.id == table.id)
    return statement.order_by(table.accepted_at_ms.desc(), table.id.desc())


def _found(asked: RequestFilter) -> Any:  # noqa: ANN401 - a subquery's columns have no static type
    """Ids that `q` may mean."""
    by_reference = select(requests.c.id).where(requests.c.client_reference == asked.q)
    if asked.id_start is None:
        return by_reference.subquery("found")
    # "g" follows every character of an id.
    by_id = select(requests.c.id).where(requests.c.id.between(asked.id_start, asked.id_start + "g"))
    return union(by_reference, by_id).subquery("found")


def _window(asked: RequestFilter) -> list[ColumnElement[bool]]:
    accepted = requests.c.accepted_at_ms
    conditions = []
    if asked.since_ms is not None:
        conditions.append(accepted >= asked.since_ms)
    if asked.until_ms is not None:
        conditions.append(accepted < asked.until_ms)
    return conditions


def _after(start: PageStart | None) -> list[ColumnElement[bool]]:
    """What follows `start`. Spelled out, since neither server reads a range for a comparison of pairs."""
    if start is None:
        return []
    table = requests.c
    return [
        and_(
            table.accepted_at_ms <= start.accepted_at_ms,
            or_(table.accepted_at_ms < start.accepted_at_ms, table.id < start.id),
        )
    ]


def _events_statement(request_id: str) -> Select[Any]:
    table = request_events.c
    size = func.length(table.data)
    return (
        select(
            table.topic,
            table.partition_no,
            table.record_offset,
            table.type,
            table.event_id,
            table.time_ms,
            table.note,
            table.anomaly,
            size.label("data_bytes"),
            func.IF(size <= SHOWN_DATA_BYTES, table.data, None).label("data"),
        )
        .where(table.request_id == request_id)
        .order_by(table.time_ms.desc())
        .limit(HISTORY_LIMIT + 1)
    )


def _attempts_statement(request_id: str) -> Select[Any]:
    table = callback_attempts.c
    return (
        select(callback_attempts)
        .where(table.request_id == request_id)
        .order_by(table.at_ms.desc(), table.partition_no.desc(), table.record_offset.desc())
        .limit(HISTORY_LIMIT + 1)
    )
