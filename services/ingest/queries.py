"""`GET /v1/requests`, `GET /v1/requests/{id}` and `GET /v1/stats`."""

import re
import time
from typing import Annotated, Final, Protocol

from fastapi import APIRouter, Query
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response

from services.ingest import problems
from services.ingest.answers import (
    ListAnswer,
    RequestAnswer,
    StatsAnswer,
    StatsItem,
    json_response,
)
from services.ingest.guard import REQUEST_ID
from services.ingest.openapi import RequestIdPath, answers
from services.ingest.problems import InvalidRequest
from services.ingest.settings import IngestSettings
from services.ingest.showing import list_answer, request_answer
from services.ingest.visibility import Visibility
from services.ingest.waiting import while_connected
from shared.db.filters import MAX_LIMIT, RequestFilter
from shared.db.views import RequestPage, StatusCount
from shared.domain.callbacks import CallbackStatus
from shared.domain.requests import RequestStatus
from shared.domain.types import Mode
from shared.events.envelope import format_time

__all__ = ["Listing", "ListingQuery", "QueryHandlers"]

DEFAULT_LIMIT: Final = 50
_WINDOW: Final = re.compile(r"([1-9]\d{0,6})([smhd])")
_UNIT_MS: Final = {"s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}


class Listing(Protocol):
    """What is asked of the database; every method raises DatabaseAwayError when it does not answer."""

    async def page(self, asked: RequestFilter, *, limit: int, cursor: str | None) -> RequestPage:
        """A page of requests, newest first."""

    async def stats(self, *, since_ms: int) -> tuple[StatusCount, ...]:
        """Counts of the requests accepted since then."""


class ListingQuery(BaseModel):
    """Filters of a listing; all of them have to hold."""

    model_config = ConfigDict(extra="forbid")

    mode: Mode | None = None
    status: RequestStatus | None = None
    callback_status: CallbackStatus | None = None
    operation: str | None = Field(default=None, max_length=128)
    source: str | None = Field(default=None, max_length=128)
    since: AwareDatetime | None = Field(default=None, description="Accepted at or after (RFC 3339).")
    until: AwareDatetime | None = Field(default=None, description="Accepted before (RFC 3339).")
    q: str | None = Field(
        default=None,
        min_length=1,
        max_length=255,
        description="A request id, at least its first 8 characters, or a client_reference.",
    )
    limit: int = Field(default=DEFAULT_LIMIT, ge=1, le=MAX_LIMIT, description="Requests per page.")
    cursor: str | None = Field(default=None, max_length=1_024, description="`next` of the page before.")

    def filter(self) -> RequestFilter:
        """The same as the read side's question."""
        return RequestFilter(
            mode=self.mode,
            status=self.status,
            callback_status=self.callback_status,
            operation=self.operation,
            source=self.source,
            since_ms=_ms(self.since),
            until_ms=_ms(self.until),
            q=self.q,
        )


class QueryHandlers:
    """Answers from the read side."""

    def __init__(self, settings: IngestSettings, listing: Listing, visibility: Visibility) -> None:
        self._max_wait_s = settings.max_wait_s
        self._listing = listing
        self._visibility = visibility

    def router(self) -> APIRouter:
        """The routes, documented."""
        router = APIRouter(tags=["requests"], default_response_class=Response)
        router.add_api_route(
            "/v1/requests",
            self.page,
            name="list_requests",
            methods=["GET"],
            summary="List requests by mode, status and more",
            responses=answers(
                {200: (ListAnswer, "A page, newest first.")},
                problems.InvalidRequest,
                problems.InvalidCursor,
                problems.FilterTooBroad,
                problems.DatabaseUnavailable,
            ),
        )
        router.add_api_route(
            "/v1/requests/{request_id}",
            self.detail,
            name="get_request",
            methods=["GET"],
            summary="One request with its history",
            responses=answers(
                {200: (RequestAnswer, "The request as far as it has come.")},
                problems.InvalidRequest,
                problems.RequestNotFound,
                problems.Overloaded,
                problems.LogUnavailable,
                problems.DatabaseUnavailable,
                problems.NotVisibleYet,
            ),
        )
        router.add_api_route(
            "/v1/stats",
            self.stats,
            methods=["GET"],
            summary="Counts by mode and status",
            responses=answers(
                {200: (StatsAnswer, "Counts.")}, problems.InvalidRequest, problems.DatabaseUnavailable
            ),
        )
        return router

    async def page(self, query: Annotated[ListingQuery, Query()]) -> Response:
        """Requests that match every given filter, newest first.

        Any one filter, `mode` with `status`, and `mode` with `callback_status` are answered from an index,
        each with or without `since` and `until`. Other combinations are searched within the query's deadline
        and may be refused with `filter_too_broad`.
        """
        page = await self._listing.page(query.filter(), limit=query.limit, cursor=query.cursor)
        return json_response(list_answer(page))

    async def detail(
        self,
        request: Request,
        request_id: RequestIdPath,
        wait: Annotated[float, Query(ge=0, description="Wait up to so many seconds for the outcome.")] = 0.0,
    ) -> Response:
        """What was asked, what came of it, and every step.

        Never 404 for what has been accepted: on a miss the answer waits until the read side has seen all that
        was in the log, and says 503 when that takes too long.
        """
        request.scope[REQUEST_ID] = request_id
        look = self._visibility.detail(request_id, min(wait, self._max_wait_s))
        detail = await (while_connected(request, look) if wait > 0 else look)
        return json_response(request_answer(detail))

    async def stats(
        self,
        window: Annotated[str, Query(description="How far back: `15m`, `24h`, `7d`.", max_length=16)] = "24h",
    ) -> Response:
        """How many requests of the window are in which state."""
        since_ms = time.time_ns() // 1_000_000 - _window_ms(window)
        counts = await self._listing.stats(since_ms=since_ms)
        items = tuple(
            StatsItem(
                mode=each.mode,
                status=each.status,
                callback_status=each.callback_status,
                count=each.count,
            )
            for each in counts
        )
        total = sum(each.count for each in items)
        return json_response(StatsAnswer(since=format_time(since_ms), total=total, items=items))


def _window_ms(text: str) -> int:
    found = _WINDOW.fullmatch(text)
    if found is None or (length_ms := int(found[1]) * _UNIT_MS[found[2]]) > 3_660 * _UNIT_MS["d"]:
        problem = "must be a number and a unit, such as 15m, 24h or 7d, and at most ten years"
        raise InvalidRequest(f"window: {problem}", [("window", problem)])
    return length_ms


def _ms(moment: AwareDatetime | None) -> int | None:
    return None if moment is None else round(moment.timestamp() * 1000)
