"""`/v1/destinations`: who gets no callbacks any more, and changing that."""

import time
from typing import Final

import msgspec
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from services.ingest import problems
from services.ingest.answers import DestinationAnswer, DestinationsAnswer, json_response
from services.ingest.bodies import Bodies
from services.ingest.body_types import DestinationBody
from services.ingest.openapi import answers, json_body
from services.ingest.problems import BodyTooLarge, InvalidRequest, LogUnavailable, MalformedJson
from services.ingest.request_log import RequestLog
from services.ingest.submitting import new_origin
from shared.destinations.changes import disable, enable
from shared.destinations.directory import DestinationDirectory
from shared.domain.callback_urls import callback_url_problem
from shared.domain.destinations import DestinationDisabled, DestinationEvent, identify
from shared.events.codec import encode
from shared.events.envelope import format_time
from shared.events.request_data import field_problem
from shared.events.strict_json import INLINE_BYTES, HostileJsonError, parse
from shared.kafka.topics import Topic

__all__ = ["DestinationHandlers"]

_BODY_PROBLEMS: Final = (
    problems.MalformedJson,
    problems.BodyTimeout,
    problems.BodyTooLarge,
    problems.UnsupportedMediaType,
    problems.InvalidRequest,
    problems.LogUnavailable,
    problems.SubmissionUnknown,
)


_EXAMPLE: Final = {"url": "https://example.com/hooks/consuma", "reason": "the shop has moved", "by": "ada"}


class DestinationHandlers:
    """Answers from a map that follows the log, and appends changes to it."""

    def __init__(self, bodies: Bodies, directory: DestinationDirectory, request_log: RequestLog) -> None:
        self._bodies = bodies
        self._directory = directory
        self._log = request_log

    def router(self) -> APIRouter:
        """The routes, documented."""
        router = APIRouter(tags=["destinations"], default_response_class=Response)
        router.add_api_route(
            "/v1/destinations",
            self.listing,
            name="list_destinations",
            methods=["GET"],
            summary="The destinations that get no callbacks",
            responses=answers(
                {200: (DestinationsAnswer, "Every disabled destination, the latest first.")},
                problems.LogUnavailable,
            ),
        )
        for change, name, words in (
            (self.disable, "disable_destination", "Make no callbacks to a URL any more"),
            (self.enable, "enable_destination", "Make callbacks to a URL again"),
        ):
            router.add_api_route(
                f"/v1/destinations/{name.partition('_')[0]}",
                change,
                name=name,
                methods=["POST"],
                summary=words,
                responses=answers({200: (DestinationAnswer, "The change is in the log.")}, *_BODY_PROBLEMS),
                openapi_extra={"requestBody": json_body(DestinationBody, _EXAMPLE)},
            )
        return router

    async def listing(self) -> Response:
        """Disabled by their receiver, who said so, or by a person."""
        self._check_ready()
        items = tuple(map(_disabled_answer, self._directory.all()))
        return json_response(DestinationsAnswer(items=items))

    async def disable(self, request: Request) -> Response:
        """Callbacks of one submitter to exactly this URL become dead letters."""
        self._check_ready()
        body = await self._read(request)
        problem = callback_url_problem(body.url)
        if problem is not None:
            raise InvalidRequest(f"url: {problem}", [("url", problem)])
        destination, shown = identify(body.submitter, body.url)
        event = disable(
            destination,
            submitter=body.submitter,
            url=shown,
            reason=body.reason,
            by=body.by,
            now_ms=time.time_ns() // 1_000_000,
        )
        await self._append(event)
        return json_response(_disabled_answer(event))

    async def enable(self, request: Request) -> Response:
        """What became a dead letter meanwhile stays one. Enabling what is enabled changes nothing."""
        self._check_ready()
        body = await self._read(request)
        destination, shown = identify(body.submitter, body.url)
        state = self._directory.disabled(destination)
        now_ms = time.time_ns() // 1_000_000
        if state is not None:
            await self._append(enable(state, reason=body.reason, by=body.by, now_ms=now_ms))
        return json_response(
            DestinationAnswer(
                id=destination,
                state="enabled",
                submitter=body.submitter,
                url=shown,
                reason=body.reason,
                by=body.by,
                at=format_time(now_ms),
            )
        )

    async def _append(self, event: DestinationEvent) -> None:
        await self._log.append(Topic.DESTINATIONS, encode(event, new_origin(None)))
        self._directory.apply(event)

    async def _read(self, request: Request) -> DestinationBody:
        async with self._bodies.body(request) as body:
            if len(body) > INLINE_BYTES:
                raise BodyTooLarge(f"a body of this call may have at most {INLINE_BYTES} bytes")
            try:
                parse(body)
                return msgspec.json.decode(body, type=DestinationBody)
            except HostileJsonError as error:
                raise MalformedJson(str(error)) from None
            except msgspec.ValidationError as error:
                field, words = field_problem(error)
                raise InvalidRequest(f"{field}: {words}", [(field, words)]) from None

    def _check_ready(self) -> None:
        if not self._directory.ready:
            raise LogUnavailable("Kafka has not told yet which destinations are disabled")


def _disabled_answer(state: DestinationDisabled) -> DestinationAnswer:
    return DestinationAnswer(
        id=state.destination_id,
        state="disabled",
        submitter=state.submitter,
        url=state.url,
        reason=state.reason,
        by=state.disabled_by,
        at=format_time(state.at_ms),
    )
