"""A server that writes bytes of its own choosing, whenever it likes: what no HTTP library would send."""

import asyncio
import os
import socket
import ssl
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Self

from tests.support.waiting import until

__all__ = ["OK", "UNWELL", "Peer", "RawServer"]

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
UNWELL = b"HTTP/1.1 503 Unwell\r\nContent-Length: 0\r\n\r\n"


class Peer:
    """One connection as the server sees it."""

    def __init__(self, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.number = number
        self.closed = asyncio.Event()
        self.half_closed = asyncio.Event()
        self._reader = reader
        self._writer = writer

    async def request(self) -> bytes:
        """The next request, its body included."""
        head = await self._reader.readuntil(b"\r\n\r\n")
        length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        return head + await self._reader.readexactly(int(length.partition(b":")[2]))

    async def say(self, *pieces: bytes) -> None:
        """Write each piece as a segment of its own, as long as somebody listens."""
        for piece in pieces:
            if self._writer.is_closing():
                return
            self._writer.write(piece)
            await self._writer.drain()
            await asyncio.sleep(0.002)

    def say_now(self, words: bytes) -> None:
        """Have the bytes lie in the client's socket before its event loop turns."""
        os.write(self._writer.get_extra_info("socket").fileno(), words)

    def half_close_now(self) -> None:
        """Have the end of what is said lie there likewise."""
        with socket.socket(fileno=os.dup(self._writer.get_extra_info("socket").fileno())) as mine:
            mine.shutdown(socket.SHUT_WR)
        self.half_closed.set()

    async def until_closed(self) -> None:
        """Read until the client closes."""
        try:
            while await self._reader.read(65_536):
                pass
        except ConnectionError:
            pass
        self.closed.set()

    def close(self) -> None:
        self._writer.close()


class RawServer:
    """Treats each connection as `treat` says; the connection is closed when that has ended."""

    def __init__(
        self, treat: Callable[[Peer], Awaitable[None]], *, tls: ssl.SSLContext | None = None
    ) -> None:
        self._tls = tls
        self.peers: list[Peer] = []
        self._treat = treat
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._tls)
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        for peer in self.peers:
            peer.close()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=5)

    @property
    def url(self) -> str:
        scheme = "https" if self._tls else "http"
        return f"{scheme}://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/hook"

    async def until_all_closed(self) -> None:
        """Return when the client has closed every connection that was treated so far."""
        await until(lambda: all(peer.closed.is_set() for peer in self.peers))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        peer = Peer(len(self.peers) + 1, reader, writer)
        self.peers.append(peer)
        try:
            await self._treat(peer)
            await peer.until_closed()
        except (asyncio.IncompleteReadError, ConnectionError):
            peer.closed.set()
        except asyncio.CancelledError:
            pass
        finally:
            peer.close()
            self._tasks.discard(task)
