"""The outermost layer, plain ASGI: who may call, how many at a time, and one account of each call."""

import time
from collections.abc import Iterable
from typing import Final

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.ingest import metrics
from services.ingest.problems import ForbiddenHost, Overloaded, Problem
from services.ingest.settings import IngestSettings

__all__ = ["REQUEST_ID", "Guard"]

log = structlog.get_logger()

REQUEST_ID: Final = "consuma.request_id"
"""Key of the ASGI scope under which handlers leave the id that a call was about, for its log line."""

LOOPBACK_NAMES: Final = ("localhost", "127.0.0.1", "::1")
SLOW_S: Final = 1.0
UNMATCHED: Final = "(none)"


class Guard:
    """Refuses what must not or cannot be handled now."""

    def __init__(self, app: ASGIApp, settings: IngestSettings) -> None:
        self._app = app
        self._most = settings.max_requests
        self._in_work = 0
        # Beyond loopback a gateway stands in front, whose names are its own affair.
        self._hosts = frozenset((*LOOPBACK_NAMES, *settings.allowed_hosts)) if settings.on_loopback else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One ASGI call."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        call = _Call(scope, send)
        self._in_work += 1
        metrics.IN_WORK.inc()
        try:
            await self._handle(call, receive)
        finally:
            self._in_work -= 1
            metrics.IN_WORK.dec()
            call.account()

    async def _handle(self, call: "_Call", receive: Receive) -> None:
        problem = self._refusal(call.scope)
        if problem is None:
            try:
                await self._app(call.scope, receive, call.send)
            except Exception:
                log.exception("http.failed", method=call.scope["method"], path=call.scope["path"])
                if not call.answered:
                    raise  # half an answer: the server cuts the connection
        else:
            await problem.response()(call.scope, receive, call.send)

    def _refusal(self, scope: Scope) -> Problem | None:
        if scope["path"].startswith("/health/"):
            return None  # whoever watches the process calls by address, and must not take load for death
        if self._in_work > self._most:
            return Overloaded(f"{self._most} HTTP requests are in work; nothing was accepted")
        if self._hosts is not None:
            host = _host_of(scope["headers"])
            if host not in self._hosts:
                return ForbiddenHost(
                    f"Host is {host[:64]!r}: call the address itself, or allow the name with "
                    "CONSUMA_ALLOWED_HOSTS"
                )
        return None


class _Call:
    """One HTTP call, as it is accounted for."""

    def __init__(self, scope: Scope, send: Send) -> None:
        self.scope = scope
        self.status = 0
        self.answered = False
        self._send = send
        self._started = time.perf_counter()

    async def send(self, message: Message) -> None:
        """Pass a message on to the server."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
        elif message["type"] == "http.response.body":
            self.answered = not message.get("more_body", False)
        await self._send(message)

    def account(self) -> None:
        """Count the call, and log it when it is worth a line."""
        seconds = time.perf_counter() - self._started
        route = getattr(self.scope.get("route"), "path", UNMATCHED)
        method = self.scope["method"] if route != UNMATCHED else UNMATCHED
        metrics.HTTP_SECONDS.labels(method, route, self.status).observe(seconds)
        write = log.warning if self.status >= 500 else log.info if self._notable(seconds) else log.debug
        write(
            "http.request",
            method=self.scope["method"],
            path=self.scope["path"],
            status=self.status,
            duration_ms=round(seconds * 1000, 2),
            request_id=self.scope.get(REQUEST_ID),
        )

    def _notable(self, seconds: float) -> bool:
        return self.status >= 400 or self.status == 0 or seconds > SLOW_S


def _host_of(headers: Iterable[tuple[bytes, bytes]]) -> str:
    """The Host header in lower case without its port; empty when absent or given twice."""
    found = [value for name, value in headers if name == b"host"]
    if len(found) != 1:
        return ""
    host = found[0].decode("latin-1").lower()
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0]
