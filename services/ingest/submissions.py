"""`POST /v1/requests/sync`, `POST /v1/requests/async` and `DELETE /v1/requests/{id}`."""

import re
from contextlib import ExitStack
from typing import Any, Final

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from services.ingest import problems
from services.ingest.answers import (
    AcceptedAnswer,
    CancelAnswer,
    OutcomeAnswer,
    json_response,
)
from services.ingest.body_types import AsyncBody, SyncBody
from services.ingest.guard import REQUEST_ID
from services.ingest.idempotency import HEADER, REPLAYED_HEADER, request_id_of
from services.ingest.intake import Intake
from services.ingest.openapi import RequestIdPath, answers, json_body, response_headers
from services.ingest.problems import AlreadyFinished, Problem
from services.ingest.replies import PendingReply, Replies
from services.ingest.settings import IngestSettings
from services.ingest.showing import outcome_answer, outcome_of_detail
from services.ingest.submitting import Accepted, Submitter, new_origin
from services.ingest.visibility import FINISHED, Visibility
from services.ingest.waiting import while_connected
from shared.db.errors import DatabaseAwayError
from shared.db.views import RequestDetail
from shared.domain.types import Mode, RequestId
from shared.events.envelope import format_time

__all__ = ["SubmissionHandlers"]

ANONYMOUS: Final = "anonymous"
"""Whose Idempotency-Keys they are as long as callers are not told apart."""

_PREFER_WAIT: Final = re.compile(r"(?:^|[,;\s])wait\s*=\s*\"?(\d{1,9})\"?(?=$|[,;\s])", re.IGNORECASE)
_TRACEPARENT: Final = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
_BODY_PROBLEMS: Final = (
    problems.MalformedJson,
    problems.InvalidHeader,
    problems.BodyTimeout,
    problems.BodyTooLarge,
    problems.UnsupportedMediaType,
    problems.InvalidRequest,
    problems.UnknownOperation,
    problems.InvalidInput,
    problems.IdempotencyKeyReused,
    problems.Overloaded,
    problems.LogUnavailable,
    problems.SubmissionUnknown,
)
_KEY_PARAMETER: Final[dict[str, Any]] = {
    "name": HEADER,
    "in": "header",
    "schema": {"type": "string", "minLength": 1, "maxLength": 255},
    "description": "Makes repeating safe: send the same key with the same body.",
    "example": "order-4711",
}
_PREFER_PARAMETER: Final[dict[str, Any]] = {
    "name": "Prefer",
    "in": "header",
    "schema": {"type": "string"},
    "description": "`wait=N`: answer 202 when the outcome is not there after N seconds (default 30).",
    "example": "wait=5",
}
_SYNC_EXAMPLE: Final = {"operation": "hash_chain", "input": {"seed": "consuma", "rounds": 1000}}
_ASYNC_EXAMPLE: Final = {**_SYNC_EXAMPLE, "callback_url": "https://example.com/hooks/consuma"}


class SubmissionHandlers:
    """Takes requests, and takes them back."""

    def __init__(
        self,
        settings: IngestSettings,
        intake: Intake,
        submitter: Submitter,
        replies: Replies,
        visibility: Visibility,
    ) -> None:
        self._settings = settings
        self._intake = intake
        self._submitter = submitter
        self._replies = replies
        self._visibility = visibility

    def router(self) -> APIRouter:
        """The routes, documented."""
        router = APIRouter(tags=["requests"], default_response_class=Response)
        accepted = {202: (AcceptedAnswer, "Accepted; `Location` tells where to ask for the outcome.")}
        outcome = {200: (OutcomeAnswer, "The outcome; an operation's failure is one too.")}
        router.add_api_route(
            "/v1/requests/sync",
            self.submit_sync,
            methods=["POST"],
            summary="Compute and answer in the same call",
            responses=answers({**outcome, **accepted}, *_BODY_PROBLEMS, headers=_HEADERS),
            openapi_extra={
                "requestBody": json_body(SyncBody, _SYNC_EXAMPLE),
                "parameters": [_KEY_PARAMETER, _PREFER_PARAMETER],
            },
        )
        router.add_api_route(
            "/v1/requests/async",
            self.submit_async,
            methods=["POST"],
            status_code=202,
            summary="Accept now, answer by callback",
            responses=answers(accepted, *_BODY_PROBLEMS, headers=_HEADERS),
            openapi_extra={
                "requestBody": json_body(AsyncBody, _ASYNC_EXAMPLE),
                "parameters": [_KEY_PARAMETER],
            },
        )
        router.add_api_route(
            "/v1/requests/{request_id}",
            self.cancel,
            name="cancel_request",
            methods=["DELETE"],
            status_code=202,
            summary="Cancel a request, queued or running",
            responses=answers(
                {202: (CancelAnswer, "The cancellation is in the log.")},
                problems.RequestNotFound,
                problems.AlreadyFinished,
                problems.Overloaded,
                problems.LogUnavailable,
                problems.SubmissionUnknown,
                problems.DatabaseUnavailable,
                problems.NotVisibleYet,
                headers=response_headers({"Location": "Where to ask for the outcome."}),
            ),
        )
        return router

    async def submit_sync(self, request: Request) -> Response:
        """Compute `operation` on `input` and wait for the outcome."""
        keyed_id = request_id_of(request, ANONYMOUS)
        wait_s, chosen = self._wait_of(request)
        with ExitStack() as expectation:
            accepted, pending = await self._accept_sync(request, keyed_id, expectation)
            request.scope[REQUEST_ID] = accepted.request_id
            if pending is None:
                return await self._repeat_sync(request, accepted, wait_s, chosen)
            outcome = await while_connected(request, pending.outcome(wait_s))
        if outcome is None:
            return _accepted(accepted, chosen)
        return json_response(outcome_answer(outcome), headers=chosen)

    async def submit_async(self, request: Request) -> Response:
        """Accept `operation` on `input`; the outcome goes to `callback_url`, and can be asked for."""
        keyed_id = request_id_of(request, ANONYMOUS)
        async with self._intake.wanted(request, Mode.ASYNC) as wanted:
            accepted = await self._submitter.seen(keyed_id, wanted)
            if accepted is None:
                accepted = await self._submitter.submit(keyed_id, wanted, new_origin(_traceparent(request)))
        request.scope[REQUEST_ID] = accepted.request_id
        return _accepted(accepted, {})

    async def cancel(self, request: Request, request_id: RequestIdPath) -> Response:
        """Have the request stopped; it ends `failed` with code `cancelled` unless its outcome comes first."""
        view = await self._visibility.view(request_id)
        request.scope[REQUEST_ID] = view.id
        if view.status in FINISHED:
            raise AlreadyFinished(f"request {view.id} has {view.status}; there is nothing to cancel")
        origin = new_origin(_traceparent(request))
        await self._submitter.cancel(view, origin)
        answer = CancelAnswer(id=view.id, status=view.status, cancel_requested_at=format_time(origin.now_ms))
        return json_response(answer, 202, {"Location": _location(RequestId(view.id))})

    async def _accept_sync(
        self, request: Request, keyed_id: RequestId | None, expectation: ExitStack
    ) -> tuple[Accepted, PendingReply | None]:
        """Append the request, with a reply expected before it is sent; None when it was seen before.

        The body is let go with the end of this call: many may wait for long.
        """
        async with self._intake.wanted(request, Mode.SYNC) as wanted:
            seen = await self._submitter.seen(keyed_id, wanted)
            if seen is not None:
                return seen, None
            pending = expectation.enter_context(self._replies.expect())
            origin = new_origin(_traceparent(request))
            return await self._submitter.submit(keyed_id, wanted, origin, pending.reply_to), pending

    async def _repeat_sync(
        self, request: Request, seen: Accepted, wait_s: float, headers: dict[str, str]
    ) -> Response:
        """The answer of an earlier call: its outcome, when the read side has it in time."""
        detail = await while_connected(request, self._finished(seen.request_id, wait_s))
        if detail is None:
            return _accepted(seen, headers)
        return json_response(outcome_of_detail(detail), headers={REPLAYED_HEADER: "true", **headers})

    async def _finished(self, request_id: RequestId, wait_s: float) -> RequestDetail | None:
        try:
            detail = await self._visibility.detail(request_id, wait_s)
        except (DatabaseAwayError, Problem):
            return None  # the request is in the log all the same
        return detail if detail.request.status in FINISHED else None

    def _wait_of(self, request: Request) -> tuple[float, dict[str, str]]:
        """How long the caller waits, and the header that says that its choice was followed."""
        asked = _PREFER_WAIT.search(request.headers.get("prefer", ""))
        if asked is None:
            return self._settings.sync_wait_s, {}
        wait_s = min(float(asked[1]), self._settings.max_wait_s)
        return wait_s, {"Preference-Applied": f"wait={wait_s:.0f}"}


_HEADERS: Final = response_headers(
    {
        "Location": "Where to ask for the outcome.",
        REPLAYED_HEADER: "`true` when this answers an earlier call with the same Idempotency-Key.",
    }
)


def _accepted(accepted: Accepted, headers: dict[str, str]) -> Response:
    at_ms = accepted.accepted_at_ms
    answer = AcceptedAnswer(
        id=accepted.request_id,
        status="accepted",
        mode=accepted.mode,
        operation=accepted.operation,
        accepted_at=None if at_ms is None else format_time(at_ms),
        client_reference=accepted.client_reference,
    )
    replayed = {REPLAYED_HEADER: "true"} if accepted.replayed else {}
    return json_response(answer, 202, {"Location": _location(accepted.request_id), **replayed, **headers})


def _location(request_id: RequestId) -> str:
    return f"/v1/requests/{request_id}"


def _traceparent(request: Request) -> str | None:
    value = request.headers.get("traceparent", "")
    return value if _TRACEPARENT.fullmatch(value) else None
