"""In-memory twins of what the API's parts talk to, and requests without a server."""

import asyncio
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from starlette.requests import Request
from starlette.types import Message

from shared.db.errors import DatabaseAwayError
from shared.db.views import RequestDetail, RequestView
from shared.domain.callbacks import CallbackStatus
from shared.domain.requests import RequestStatus
from shared.domain.types import Mode
from shared.kafka.records import Partition

__all__ = ["LogEnds", "ReadSideTwin", "request_of", "view_of"]

JSON = {"content-type": "application/json"}


def request_of(
    *chunks: bytes, headers: Mapping[str, str] = JSON, gone: asyncio.Event | None = None
) -> Request:
    """A request whose body comes in `chunks`; after it the caller stays until `gone` is set."""
    messages: list[Message] = [
        {"type": "http.request", "body": chunk, "more_body": number < len(chunks)}
        for number, chunk in enumerate(chunks, 1)
    ]

    async def receive() -> Message:
        if messages:
            return messages.pop(0)
        if gone is not None:
            await gone.wait()
            return {"type": "http.disconnect"}
        await asyncio.Event().wait()
        raise AssertionError("the caller stays")

    raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    scope = {"type": "http", "method": "POST", "path": "/", "headers": raw, "query_string": b""}
    return Request(scope, receive)


def view_of(request_id: str, status: RequestStatus = RequestStatus.ACCEPTED) -> RequestView:
    """A row of the read side that says only what these tests look at."""
    nothing: dict[str, Any] = {each.name: None for each in fields(RequestView)}
    known = {
        "id": request_id,
        "mode": Mode.ASYNC,
        "source": "rest",
        "operation": "primes",
        "status": status,
        "callback_status": CallbackStatus.NONE,
        "accepted_at_ms": 1,
    }
    return RequestView(**(nothing | known))


class ReadSideTwin:
    """Rows by id, and how far the projection is; `looks` counts the queries for one request."""

    def __init__(self) -> None:
        self.rows: dict[str, RequestView] = {}
        self.positions: dict[Partition, int] = {}
        self.away = False
        self.looks = 0

    async def request(self, request_id: str) -> RequestView | None:
        await asyncio.sleep(0)
        self.looks += 1
        if self.away:
            raise DatabaseAwayError("away")
        return self.rows.get(request_id)

    async def detail(self, request_id: str) -> RequestDetail | None:
        view = await self.request(request_id)
        if view is None:
            return None
        return RequestDetail(
            request=view,
            input=None,
            result=None,
            error=None,
            events=(),
            callback_attempts=(),
            truncated=False,
        )

    async def projection_positions(self) -> dict[Partition, int]:
        await asyncio.sleep(0)
        return dict(self.positions)


class LogEnds:
    """Where the log ends."""

    def __init__(self, ends: Mapping[Partition, int]) -> None:
        self.found = dict(ends)
        self.asked = 0

    async def __call__(self, timeout_s: float) -> Mapping[Partition, int]:
        self.asked += 1
        return dict(self.found)
