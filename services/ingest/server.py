"""Serving the application: one process, until it is told to stop."""

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import structlog
import uvicorn

from services.ingest.app import create_app
from services.ingest.settings import IngestSettings

__all__ = ["PortInUseError", "listen", "serve", "url_of"]

log = structlog.get_logger()

BACKLOG: Final = 2_048
KEEP_ALIVE_S: Final = 75
"""Longer than the idle time of common load balancers, which must be the first to hang up."""


class PortInUseError(Exception):
    """Somebody else listens on the address."""


def listen(settings: IngestSettings) -> socket.socket:
    """The listening socket.

    Raises:
        PortInUseError: the address is taken.
    """
    address = (settings.listen_host, settings.listen_port)
    family = socket.AF_INET6 if ":" in settings.listen_host else socket.AF_INET
    try:
        listener = socket.create_server(address, family=family, backlog=BACKLOG)
    except OSError as error:
        raise PortInUseError(
            f"cannot listen on {settings.listen_host}:{settings.listen_port}: {error.strerror}; end what "
            "listens there, or choose another port with CONSUMA_LISTEN_PORT"
        ) from error
    listener.setblocking(False)
    return listener


def url_of(listener: socket.socket) -> str:
    """Where to call what listens there."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


async def serve(settings: IngestSettings, listener: socket.socket, stop: asyncio.Event) -> None:
    """Serve on `listener` until `stop` is set, then drain.

    Waiting sync callers wait on for `stop_wait_ms` and are then sent away with 202; the rest of the work has
    the drain timeout.

    Raises:
        RuntimeError: the application cannot run on, or did not start.
    """
    app = create_app(settings)
    server = _Server(
        uvicorn.Config(
            app,
            http="httptools",
            ws="none",
            lifespan="on",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            backlog=BACKLOG,
            timeout_keep_alive=KEEP_ALIVE_S,
            timeout_graceful_shutdown=max(1, settings.drain_timeout_ms // 1000),
        )
    )
    async with asyncio.TaskGroup() as tasks:
        serving = tasks.create_task(server.serve(sockets=[listener]), name="uvicorn")
        log.info("ingest.listening", url=url_of(listener))
        ended = [tasks.create_task(each.wait()) for each in (stop, app.broken)]
        await asyncio.wait([serving, *ended], return_when=asyncio.FIRST_COMPLETED)
        server.should_exit = True
        asyncio.get_running_loop().call_later(settings.stop_wait_ms / 1000, app.release)
        await serving
        for task in ended:
            task.cancel()
    if app.broken.is_set() or not stop.is_set():
        raise RuntimeError("the API cannot run on; the log tells why")


class _Server(uvicorn.Server):
    """Leaves signals to whoever runs it."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield
