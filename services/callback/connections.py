"""The connections that calls go over: bounded while idle, and believed only as answers to what was sent.

A server may say more than it was asked for: an answer twice, a timeout on an idle connection, rubbish after
a body. Whatever a connection carries before a request is written to it answers nothing, so that such a
connection is closed, or not used. And what follows the head of an answer must not take the head with it: the
parser of the client library is given heads apart from what comes after them.
"""

import asyncio
import functools
import re
import select
from collections import OrderedDict
from typing import TYPE_CHECKING, Final

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection
from aiohttp.http import RawResponseMessage
from aiohttp.streams import StreamReader

if TYPE_CHECKING:
    from aiohttp.client_reqrep import ConnectionKey
    from aiohttp.tracing import Trace

__all__ = ["CallConnector", "CallProtocol"]

HEAD_END: Final = re.compile(rb"\n\r?\n")
WITHOUT_BODY: Final = (204, 304)
SWITCHING: Final = 101
FINAL: Final = 200
READABLE: Final = select.POLLIN | select.POLLHUP | select.POLLERR


class CallProtocol(ResponseHandler):
    """One connection. Between two calls it is at rest; anything that comes then closes it."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self._at_rest = False
        self._heard = False
        self._has_head = False
        self._left: int | None = None
        self._last = b""

    def rest(self) -> None:
        """The answer has ended, and nothing may come before the next request."""
        self._at_rest = True
        self._heard = False
        self._has_head = False
        self._left = None
        self._last = b""

    def wake(self) -> None:
        """A call has taken the connection."""
        self._at_rest = False

    @property
    def is_quiet(self) -> bool:
        """Whether nothing has come yet since the last answer, as far as the event loop has read."""
        return self.is_connected() and not self._heard and not self.should_close

    @property
    def has_spoken(self) -> bool:
        """Whether anything has come since the last answer."""
        return self._heard

    def has_unread(self) -> bool:
        """Whether the system holds something that the event loop has not read: bytes, or the end."""
        if self.transport is None:
            return True
        poll = select.poll()
        poll.register(self.transport.get_extra_info("socket").fileno(), select.POLLIN)
        return any(event & READABLE for _, event in poll.poll(0))

    def data_received(self, data: bytes) -> None:
        """Take what the server says; the head of an answer apart from what follows.

        The library calls it without data to have its parser go on.
        """
        if not data:
            super().data_received(data)
            return
        self._heard = True
        if self._at_rest:
            self._end()
        else:
            self._take(data)
            self._keep_tidy()

    def _take(self, data: bytes) -> None:
        while not self._has_head and self._exception is None and (end := self._head_end(data)):
            super().data_received(data[:end])
            data = data[end:]
        if data and self._exception is None:
            self._count(data)
            super().data_received(data)

    def _keep_tidy(self) -> None:
        """Close what has come to rest with a further answer in it."""
        if self._at_rest and self.should_close:
            self._end()

    def feed_data(self, data: tuple[RawResponseMessage, StreamReader], size: int = 0) -> None:
        """A head was parsed."""
        message = data[0]
        if message.code >= FINAL or message.code == SWITCHING:
            self._has_head = True
            self._left = _body_bytes(message)
        super().feed_data(data, size)

    def _head_end(self, data: bytes) -> int:
        """How much of `data` belongs to a head that ends in it; 0 when none does."""
        found = HEAD_END.search(self._last + data)
        end = found.end() - len(self._last) if found else 0
        self._last = b"" if found else (self._last + data)[-2:]
        return end

    def _count(self, data: bytes) -> None:
        """See to it that a connection which carries more than its answer is not kept."""
        if self._left is not None:
            self._left -= len(data)
            if self._left < 0:
                self.force_close()

    def _end(self) -> None:
        self.force_close()
        if self.transport is not None:
            self.transport.close()


class CallConnector(aiohttp.TCPConnector):
    """The pool. At most `most_idle` connections are kept; beyond that the one idle for longest is closed.

    Takes what `aiohttp.TCPConnector` takes besides.
    """

    def __init__(self, *, most_idle: int, **options: object) -> None:
        super().__init__(**options)  # type: ignore[arg-type]  # named where it is made
        self._factory = functools.partial(CallProtocol, loop=self._loop)  # type: ignore[assignment]
        self._most_idle = most_idle
        self._idle: OrderedDict[CallProtocol, None] = OrderedDict()

    async def _get(self, key: "ConnectionKey", traces: "list[Trace]") -> Connection | None:
        connection = await super()._get(key, traces)
        if connection is not None and isinstance(connection.protocol, CallProtocol):
            self._idle.pop(connection.protocol, None)
            connection.protocol.wake()
        return connection

    def _release(
        self, key: "ConnectionKey", protocol: ResponseHandler, *, should_close: bool = False
    ) -> None:
        super()._release(key, protocol, should_close=should_close)
        if not isinstance(protocol, CallProtocol) or not protocol.is_connected():
            return
        protocol.rest()
        self._idle[protocol] = None
        while len(self._idle) > self._most_idle:
            oldest, _ = self._idle.popitem(last=False)
            oldest.close()


def _body_bytes(message: RawResponseMessage) -> int | None:
    """How long the body is, or None when that shows only at its end."""
    if message.code in WITHOUT_BODY:
        return 0
    length = message.headers.get("Content-Length")
    return int(length) if length is not None and length.isdigit() and not message.chunked else None
