"""The answers of a receiver under test, most of which no HTTP server would let it give."""

import asyncio
import gzip
import socket
import struct
from functools import cache
from typing import Final

from aiohttp import web

from shared.testing.receiver_behaviour import Behaviour, Deed

__all__ = ["answer", "head", "raw", "reset", "transport_of"]

FLOOD_BYTES: Final = 16 * 1024 * 1024
_LINGER_NOT: Final = struct.pack("ii", 1, 0)


def answer(request: web.Request, behaviour: Behaviour) -> web.StreamResponse:
    """Answer as told, where that takes no time."""
    match behaviour.do:
        case Deed.TRUNCATE:
            return raw(request, head(behaviour.status, b"Content-Length: 1000\r\n\r\nnot all of it"))
        case Deed.GARBAGE:
            return raw(request, b"\x16\x03\x01 this is no HTTP\r\n\r\n" * 8)
        case Deed.HUGE_HEADER:
            return raw(request, head(behaviour.status, b"X-Huge: " + b"x" * 200_000 + b"\r\n\r\n"))
        case Deed.MANY_HEADERS:
            lines = b"".join(b"X-%d: x\r\n" % number for number in range(10_000))
            return raw(request, head(behaviour.status, lines + b"\r\n"))
        case Deed.BOMB:
            return _sized(request, behaviour.status, _bomb(), b"Content-Encoding: gzip\r\n")
        case Deed.FLOOD:
            return _sized(request, behaviour.status, bytes(FLOOD_BYTES), b"")
        case _:
            return _plain(behaviour)


def _plain(behaviour: Behaviour) -> web.Response:
    response = web.Response(status=behaviour.status, headers=behaviour.headers(), text=behaviour.body)
    if not behaviour.keep:
        response.force_close()
    return response


@cache
def _bomb() -> bytes:
    return gzip.compress(bytes(FLOOD_BYTES), compresslevel=6)


def head(status: int, rest: bytes) -> bytes:
    """A status line, and what follows it."""
    return b"HTTP/1.1 %d Whatever\r\n" % status + rest


def _sized(request: web.Request, status: int, body: bytes, lines: bytes) -> web.StreamResponse:
    return raw(request, head(status, lines + b"Content-Length: %d\r\n\r\n" % len(body)) + body)


def raw(request: web.Request, answer: bytes) -> web.StreamResponse:
    """Write `answer` past the server's own writer, then close; what the server writes after it is lost."""
    transport = transport_of(request)
    transport.write(answer)
    transport.close()
    return web.Response()


def reset(request: web.Request) -> web.StreamResponse:
    """Reset the connection: what the sender has not read yet is lost to it."""
    transport = request.transport
    if transport is not None:
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOT)
        transport.abort()
    return web.Response()


def transport_of(request: web.Request) -> asyncio.Transport:
    """The connection of `request`, while there is one."""
    if request.transport is None:
        raise ConnectionResetError("the sender is gone")
    return request.transport
