"""Bodies of requests: their media type, size, time, and the memory that all of them together take."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from starlette.requests import Request

from services.ingest import metrics
from services.ingest.problems import BodyTimeout, BodyTooLarge, Overloaded, UnsupportedMediaType
from services.ingest.settings import IngestSettings

__all__ = ["Bodies"]

DISCARDED_BYTES: Final = 8 * 1024 * 1024
"""How much of an oversized body is read away, so that a client which sends first and then reads is told."""


class Bodies:
    """Reads bodies of JSON, within bounds."""

    def __init__(self, settings: IngestSettings) -> None:
        self._limit = settings.body_limit_bytes
        self._timeout_s = settings.body_timeout_s
        self._room = settings.body_memory_bytes

    @asynccontextmanager
    async def body(self, request: Request) -> AsyncIterator[bytes]:
        """The body, whose bytes are accounted for until the end of the block.

        Raises:
            UnsupportedMediaType, BodyTooLarge, BodyTimeout, Overloaded: it cannot be read.
        """
        _check_media_type(request)
        held = _Body(self)
        try:
            yield await self._read(request, held)
        finally:
            self.take_room(-held.size)

    def take_room(self, size: int) -> None:
        """Account for `size` more bytes, or fewer.

        Raises:
            Overloaded: there is no room for them.
        """
        if size > self._room:
            raise Overloaded("the bodies in work fill the memory set aside for them; nothing was accepted")
        self._room -= size
        metrics.BODY_BYTES.inc(size)

    async def _read(self, request: Request, held: "_Body") -> bytes:
        try:
            async with asyncio.timeout(self._timeout_s):
                return await _collect(request, self._limit, held)
        except TimeoutError:
            raise BodyTimeout(f"the body was not there after {self._timeout_s:g} s") from None


class _Body:
    """Bytes of one body, as far as they are kept."""

    def __init__(self, bodies: Bodies) -> None:
        self._bodies = bodies
        self._chunks: list[bytes] = []
        self.size = 0

    def keep(self, chunk: bytes) -> None:
        """Add `chunk`.

        Raises:
            Overloaded: there is no room for it.
        """
        self._bodies.take_room(len(chunk))
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
