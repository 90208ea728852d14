"""POST over pooled connections, with one deadline over everything and nothing that a receiver can choose.

No redirects, cookies, proxies of the environment or decompression. The status line decides: what becomes of
the answer's body changes nothing. An idle connection is given up before common servers close theirs, since a
request that meets a closing connection has an unknown fate. Only a connection that breaks, or says something,
before the first byte of the request is replaced silently; every other failure is the caller's to judge.
"""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Awaitable, Callable
from typing import Final

import aiohttp
from aiohttp.abc import AbstractStreamWriter
from aiohttp.connector import AddrInfoType
from aiohttp.http import StreamWriter
from aiohttp.payload import Payload
from yarl import URL

from services.callback.call import Answer, Call, CallFailure, NotBegun
from services.callback.connections import CallConnector, CallProtocol
from services.callback.failures import Progress, classify
from services.callback.resolver import Lookup, VettingResolver
from services.callback.targets import TargetPolicy, call_url
from shared.domain.address_policy import AddressPolicy, parse_networks
from shared.open_files import open_files

__all__ = ["BODY_CAP", "EXCERPT_BYTES", "HttpClient"]

BODY_CAP: Final = 64 * 1024
"""So far an answer is read, to keep its connection; a longer one costs the receiver its connection."""

EXCERPT_BYTES: Final = 1024
KEPT_IDLE_S: Final = 4.0
"""Node and uvicorn close idle connections after 5 s, others later."""

MOST_IDLE: Final = 1_000
IDLE_SHARE: Final = 4
"""Idle connections take at most this part of all descriptors, whatever the setting says."""

SUCCESS_S: Final = 0.05
"""So long a success waits for the end of its body, to keep the connection."""

EXCERPT_S: Final = 1.0
"""So long any other answer waits for what its body says."""

CONNECTIONS_TRIED: Final = 3
"""The first, and two that replace those which were at their end, or not quiet, before a byte was sent."""

LOOKS: Final = 4
"""Turns of the event loop in which what lies in a connection is read: TLS has words of its own there."""

PIECE_BYTES: Final = 64 * 1024
HEADER_LINE_BYTES: Final = 8 * 1024
HEADER_COUNT: Final = 100
ANYWHERE: Final = AddressPolicy(parse_networks("0.0.0.0/0,::/0"))
_LOST: Final = (aiohttp.ClientConnectionResetError, aiohttp.ClientOSError, aiohttp.ServerDisconnectedError)


class HttpClient:
    """Makes calls while it is open. Concurrency is the caller's to limit: here every call gets a connection.

    Args:
        targets: where calls may go. With a proxy it judges literals only: the proxy resolves, and decides.
        lookup: finds the addresses of a name.
        connect_timeout_s: for lookup, connection and handshake.
        ssl_context: how receivers are trusted.
        proxy: a forward proxy for every call.
        most_idle: connections kept between calls; beyond it the one idle for longest is closed.
    """

    def __init__(
        self,
        targets: TargetPolicy,
        lookup: Lookup,
        *,
        connect_timeout_s: float,
        ssl_context: ssl.SSLContext,
        proxy: str | None = None,
        most_idle: int = MOST_IDLE,
    ) -> None:
        self._most_idle = most_idle
        self._targets = targets
        self._lookup = lookup
        self._timeout = aiohttp.ClientTimeout(total=None, connect=connect_timeout_s)
        self._ssl_context = ssl_context
        self._proxy = URL(proxy) if proxy else None
        self._session: aiohttp.ClientSession | None = None

    async def start(self) -> None:
        """Open the pool, on the running loop."""
        direct = self._proxy is None
        connector = CallConnector(
            most_idle=min(self._most_idle, open_files() // IDLE_SHARE),
            limit=0,
            resolver=VettingResolver(self._targets.addresses if direct else ANYWHERE, self._lookup),
            socket_factory=self._vetted_socket if direct else None,
            keepalive_timeout=KEPT_IDLE_S,
            ssl=self._ssl_context,
        )
        self._session = aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=self._timeout,
            trust_env=False,
            auto_decompress=False,
            max_line_size=HEADER_LINE_BYTES,
            max_field_size=HEADER_LINE_BYTES,
            max_headers=HEADER_COUNT,
        )

    async def stop(self) -> None:
        """Close every connection."""
        if self._session is not None:
            await self._session.close()

    async def post(self, call: Call) -> Answer | CallFailure | NotBegun:
        """Make `call` within its deadline. Whatever goes wrong is an outcome; only cancellation is raised."""
        progress = Progress(proxied=self._proxy is not None)
        try:
            async with asyncio.timeout(call.timeout_s):
                await self._exchange(call, progress)
        except Exception as error:  # noqa: BLE001 - nothing that a receiver causes may escape
            if progress.answer is None:
                return classify(error, progress)
        return _with_excerpt(progress)

    async def _exchange(self, call: Call, progress: Progress) -> None:
        response = await _unless_unsent(lambda: self._send(call, progress), progress)
        try:
            progress.answer = Answer(
                status=response.status,
                retry_after=response.headers.get("Retry-After"),
                delivery=response.headers.get("webhook-delivery"),
            )
            await _read_soon(response, progress.body)
        finally:
            response.release()

    async def _send(self, call: Call, progress: Progress) -> aiohttp.ClientResponse:
        if self._session is None:
            raise RuntimeError("the HTTP client is not started")
        url = call_url(call.url)
        self._targets.check_url(url)
        progress.tls = url.scheme == "https"
        return await self._session.post(
            url,
            data=_Body(call.body, progress),
            headers=call.headers,
            allow_redirects=False,
            proxy=self._proxy,
        )

    def _vetted_socket(self, address: AddrInfoType) -> socket.socket:
        """The last gate: whatever notation or library led here, this is what is connected to."""
        family, kind, protocol, _, target = address
        self._targets.check_address(str(target[0]))
        return open_socket(family, kind, protocol)


def open_socket(family: int, kind: int, protocol: int) -> socket.socket:
    """A socket.

    Raises:
        OSError: none is to be had.
    """
    return socket.socket(family, kind, protocol)


async def _unless_unsent(
    send: Callable[[], Awaitable[aiohttp.ClientResponse]], progress: Progress
) -> aiohttp.ClientResponse:
    """Send again when a connection turned out to be dead, or not quiet, before anything was written to it.

    What looks like an answer then is none: it was there before the request.
    """
    for tried in range(1, CONNECTIONS_TRIED + 1):
        try:
            response = await send()
        except aiohttp.ClientConnectorError:
            raise
        except _LOST:
            if progress.sending or tried == CONNECTIONS_TRIED:
                raise
        else:
            if progress.sending:
                return response
            response.close()
    progress.unasked = True
    raise aiohttp.ServerDisconnectedError


async def _read_soon(response: aiohttp.ClientResponse, body: bytearray) -> None:
    if response.content.is_eof():  # as a rule: it came with the head, and waits for nothing
        await _read_capped(response.content, body)
        return
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(SUCCESS_S if response.ok else EXCERPT_S):
            await _read_capped(response.content, body)


async def _read_capped(content: aiohttp.StreamReader, body: bytearray) -> None:
    async for chunk in content.iter_any():
        body += chunk[: BODY_CAP - len(body)]
        if len(body) >= BODY_CAP:
            return


def _with_excerpt(progress: Progress) -> Answer:
    answer = progress.answer
    if answer is None:
        raise AssertionError("a call ends with an answer or an error")
    excerpt = bytes(progress.body[:EXCERPT_BYTES]).decode("utf-8", "replace")
    return Answer(
        status=answer.status, retry_after=answer.retry_after, delivery=answer.delivery, excerpt=excerpt
    )


class _Body(Payload):
    """A request's body that tells when the first byte of the request is about to leave.

    The client holds a request's headers back until the first piece of its body is written.
    """

    _value: bytes
    _autoclose = True

    def __init__(self, value: bytes, progress: Progress) -> None:
        super().__init__(value, content_type="application/json")
        self._size = len(value)
        self._progress = progress

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        return self._value.decode(encoding, errors)

    async def write(self, writer: AbstractStreamWriter) -> None:
        await self.write_with_length(writer, None)

    async def write_with_length(self, writer: AbstractStreamWriter, content_length: int | None) -> None:
        if not isinstance(writer, StreamWriter):
            raise TypeError("the client library writes requests in a new way")
        await self._until_quiet(writer.protocol)
        self._progress.sending = True
        for start in range(0, len(self._value), PIECE_BYTES):
            await writer.write(self._value[start : start + PIECE_BYTES])

    async def _until_quiet(self, protocol: object) -> None:
        """See to it that nothing lies in the connection which could be taken for an answer.

        Raises:
            ConnectionResetError: something does, or the connection is at its end.
        """
        if not isinstance(protocol, CallProtocol):
            raise TypeError("the client library makes connections in a new way")
        for _ in range(LOOKS):
            if not protocol.is_quiet:
                break
            if not protocol.has_unread():
                return
            await asyncio.sleep(0)
        self._progress.unasked = protocol.has_spoken
        raise ConnectionResetError
