"""From an HTTP request to a checked submission: media type, size, JSON, fields, and the operation's input."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Annotated, Final

import msgspec
from starlette.requests import Request

from services.ingest import metrics
from services.ingest.problems import (
    BodyTimeout,
    BodyTooLarge,
    InvalidInput,
    InvalidRequest,
    MalformedJson,
    Overloaded,
    Problem,
    UnknownOperation,
    UnsupportedMediaType,
)
from services.ingest.settings import IngestSettings
from shared.domain.types import Mode
from shared.events.submission import (
    MAX_REFERENCE,
    FieldProblem,
    RequestData,
    SubmissionError,
    parse_request_data,
    request_digest,
)
from shared.operations.registry import InvalidInputError, Registry, UnknownOperationError

__all__ = ["REST_SOURCE", "AsyncBody", "Intake", "SyncBody", "Wanted"]

REST_SOURCE: Final = "rest"
"""What the events of this API name as the submitter."""

INLINE_BYTES: Final = 64 * 1024
"""Bodies up to this size are checked on the event loop: handing them to a thread costs more."""

DISCARDED_BYTES: Final = 8 * 1024 * 1024
"""How much of an oversized body is read away, so that a client which sends first and then reads is told."""


class SyncBody(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What `POST /v1/requests/sync` takes."""

    operation: Annotated[str, msgspec.Meta(description="Name of an operation, see `/v1/operations`.")]
    input: Annotated[object, msgspec.Meta(description="What the operation's `input_schema` asks for.")] = {}
    timeout: Annotated[
        float | None, msgspec.Meta(description="Longest running time of the operation, in seconds.")
    ] = None
    expires_at: Annotated[
        str | None, msgspec.Meta(description="RFC 3339 time after which the request is not started any more.")
    ] = None
    client_reference: Annotated[
        Annotated[str, msgspec.Meta(max_length=MAX_REFERENCE)] | None,
        msgspec.Meta(description="Your own name for the request."),
    ] = None


class AsyncBody(SyncBody, kw_only=True, forbid_unknown_fields=True):
    """What `POST /v1/requests/async` takes."""

    callback_url: Annotated[
        str | None, msgspec.Meta(description="http or https URL that is to receive the signed outcome.")
    ] = None


_FIELDS: Final = {
    Mode.SYNC: frozenset(SyncBody.__struct_fields__),
    Mode.ASYNC: frozenset(AsyncBody.__struct_fields__),
}
_keys_decoder: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])


@dataclass(frozen=True, slots=True)
class Wanted:
    """A submission that can be accepted; `data.digest` tells bodies apart."""

    mode: Mode
    data: RequestData
    digest: str


class Intake:
    """Reads and checks the bodies of submissions, which together take a bounded part of the memory."""

    def __init__(self, settings: IngestSettings, registry: Registry) -> None:
        self._limit = settings.body_limit_bytes
        self._timeout_s = settings.body_timeout_s
        self._room = settings.body_memory_bytes
        self._registry = registry

    @asynccontextmanager
    async def wanted(self, request: Request, mode: Mode) -> AsyncIterator[Wanted]:
        """The submission in `request`; its bytes are accounted for until the end of the block.

        Raises:
            Problem: it is not one, or there is no room for it.
        """
        _check_media_type(request)
        held = _Body(self)
        try:
            yield await self._read(request, mode, held)
        finally:
            self.take_room(-held.size)

    async def _read(self, request: Request, mode: Mode, held: "_Body") -> Wanted:
        try:
            async with asyncio.timeout(self._timeout_s):
                body = await _collect(request, self._limit, held)
        except TimeoutError:
            raise BodyTimeout(f"the body was not there after {self._timeout_s:g} s") from None
        if len(body) <= INLINE_BYTES:
            return self.check(body, mode)
        return await asyncio.to_thread(self.check, body, mode)

    def take_room(self, size: int) -> None:
        """Account for `size` more bytes, or fewer.

        Raises:
            Overloaded: there is no room for them.
        """
        if size > self._room:
            raise Overloaded("the bodies in work fill the memory set aside for them; nothing was accepted")
        self._room -= size
        metrics.BODY_BYTES.inc(size)

    def check(self, body: bytes, mode: Mode) -> Wanted:
        """The submission in `body`.

        Raises:
            MalformedJson, InvalidRequest, UnknownOperation, InvalidInput: it is not one.
        """
        try:
            data = parse_request_data(body)
            _check_fields(body, mode)
            self._check_operation(data)
        except SubmissionError as error:
            raise _submission_problem(error) from None
        digest = request_digest(data)
        data = msgspec.structs.replace(data, source=REST_SOURCE, digest=digest)
        return Wanted(mode, data, digest)

    def _check_operation(self, data: RequestData) -> None:
        try:
            limits = self._registry.get(data.operation).limits
            self._registry.parse(data.operation, bytes(data.input))
        except UnknownOperationError as error:
            raise UnknownOperation(str(error), [("operation", str(error))]) from None
        except InvalidInputError as error:
            raise InvalidInput(f"operation {data.operation}: {error}", error.fields) from None
        if data.timeout is not None and data.timeout * 1000 > limits.max_timeout_ms:
            longest_s = limits.max_timeout_ms / 1000
            problem = f"operation {data.operation} allows at most {longest_s:g} seconds"
            raise InvalidRequest(f"timeout: {problem}", [("timeout", problem)])


class _Body:
    """Bytes of one body, as far as they are kept."""

    def __init__(self, intake: Intake) -> None:
        self._intake = intake
        self._chunks: list[bytes] = []
        self.size = 0

    def keep(self, chunk: bytes) -> None:
        """Add `chunk`.

        Raises:
            Overloaded: there is no room for it.
        """
        self._intake.take_room(len(chunk))
        self.size += len(chunk)
        self._chunks.append(chunk)

    def whole(self) -> bytes:
        """All of it; the parts are let go."""
        body = b"".join(self._chunks)
        self._chunks.clear()
        return body


async def _collect(request: Request, limit: int, held: _Body) -> bytes:
    declared = request.headers.get("content-length", "")
    excess = declared.isdigit() and int(declared) > DISCARDED_BYTES
    size = 0
    if not excess:
        async for chunk in request.stream():
            size += len(chunk)
            if size <= limit:
                held.keep(chunk)
            elif size > DISCARDED_BYTES:
                break
    if excess or size > limit:
        raise BodyTooLarge(f"a body may have at most {limit} bytes")
    return held.whole()


def _check_media_type(request: Request) -> None:
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/json":
        raise UnsupportedMediaType(f"Content-Type is {media_type!r}; send application/json")
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding != "identity":
        raise UnsupportedMediaType(f"Content-Encoding {encoding!r} is not read; send the JSON text itself")


def _check_fields(body: bytes, mode: Mode) -> None:
    """Refuse what would be ignored: a misspelt `callback_url` must not become a request without one."""
    allowed = _FIELDS[mode]
    unknown = [name for name in _keys_decoder.decode(body) if name not in allowed]
    if unknown:
        known = ", ".join(sorted(allowed))
        fields: list[FieldProblem] = [
            (name[:128], f"is not a field of this call: {known}") for name in unknown[:20]
        ]
        raise InvalidRequest(f"unknown fields: {', '.join(name for name, _ in fields)}", fields)


def _submission_problem(error: SubmissionError) -> Problem:
    kind = MalformedJson if error.reason == "malformed_json" else InvalidRequest
    return kind(error.message, error.fields)
