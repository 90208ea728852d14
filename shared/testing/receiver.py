"""A receiver of callbacks for tests and for people who try things out: it behaves as told and records all.

How a call is treated is decided, in this order, by the query of its URL, by what was set for its path, and by
the receiver's own behaviour. Only what a real receiver could observe is recorded.
"""

import asyncio
import hashlib
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self
from urllib.parse import urlencode

from aiohttp import web
from standardwebhooks import Webhook, WebhookVerificationError

from shared.testing.receiver_answers import answer, head, raw, reset, transport_of
from shared.testing.receiver_behaviour import OBEDIENT, Behaviour, BehaviourError, Deed, parse_behaviour

__all__ = ["ReceivedCall", "Receiver"]

CALLS_KEPT: Final = 200_000
BODY_BYTES: Final = 8 * 1024 * 1024
DRIP_INTERVAL_S: Final = 0.02
SHUTDOWN_S: Final = 0.2
_WITH_STATUS: Final = (Deed.ANSWER, Deed.DRIP, Deed.TRUNCATE, Deed.BOMB, Deed.FLOOD)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceivedCall:
    """One call as it arrived. `signed` is None where the receiver knows no secret.

    `arrived_s` is of the loop's clock, `timestamp` what the sender claims; `connection` numbers the
    connections in the order in which they were first used. `body` is None unless bodies are kept.
    """

    webhook_id: str
    timestamp: str
    signed: bool | None
    path: str
    arrived_s: float
    arrived_at_ms: int
    body_bytes: int
    body_sha256: str
    connection: int
    number: int
    behaviour: Behaviour
    headers: tuple[tuple[str, str], ...]
    body: bytes | None = None

    @property
    def accepted(self) -> bool:
        """Whether the answer, if any was given, is a success."""
        return self.behaviour.do in _WITH_STATUS and 200 <= self.behaviour.status < 300


class Receiver:
    """Serves while it is entered.

    Args:
        secrets: with which signatures are verified (`whsec_…`); any of them may have signed.
        behaviour: how calls are treated whose URL and path say nothing.
        host: address to listen on.
        port: 0 lets the system choose.
        keep_bodies: whether what was received is kept with each call.
        on_call: told of every call when it has arrived.
    """

    def __init__(
        self,
        *,
        secrets: Sequence[str] = (),
        behaviour: Behaviour = OBEDIENT,
        host: str = "127.0.0.1",
        port: int = 0,
        keep_bodies: bool = False,
        on_call: Callable[[ReceivedCall], None] | None = None,
    ) -> None:
        self.calls: deque[ReceivedCall] = deque(maxlen=CALLS_KEPT)
        self.accepted: Counter[str] = Counter()
        self.behaviour = behaviour
        self.paths: dict[str, Behaviour] = {}
        self.open_calls = 0
        self.most_open_calls = 0
        self._webhooks = [Webhook(secret) for secret in secrets]
        self._host = host
        self._port = port
        self._keep_bodies = keep_bodies
        self._on_call = on_call
        self._numbers: Counter[str] = Counter()
        self._connections: dict[asyncio.Transport, int] = {}
        self.connections = 0
        self._closing = asyncio.Event()
        app = web.Application(client_max_size=BODY_BYTES)
        app.router.add_get("/-/calls", self._show_calls)
        app.router.add_put("/-/behaviour", self._set_behaviour)
        app.router.add_route("*", "/{path:.*}", self._receive)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=SHUTDOWN_S, keepalive_timeout=75)

    async def __aenter__(self) -> Self:
        """Listen.

        Raises:
            OSError: the address is in use.
        """
        await self._runner.setup()
        await web.TCPSite(self._runner, self._host, self._port).start()
        self._port = self._runner.addresses[0][1]
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._closing.set()
        await self._runner.cleanup()

    @property
    def port(self) -> int:
        """Where it listens."""
        return self._port

    def url(self, path: str = "/hook", **behaviour: object) -> str:
        """A URL of this receiver whose query asks for a behaviour."""
        query = f"?{urlencode(behaviour)}" if behaviour else ""
        return f"http://{self._host}:{self._port}{path}{query}"

    def duplicates(self) -> dict[str, int]:
        """Webhook ids that were answered with a success more than once, and how often."""
        return {webhook_id: times for webhook_id, times in self.accepted.items() if times > 1}

    async def _receive(self, request: web.Request) -> web.StreamResponse:
        try:
            behaviour = parse_behaviour(dict(request.query), self.paths.get(request.path, self.behaviour))
        except BehaviourError as error:
            return web.Response(status=400, text=f"{error}\n")
        self.open_calls += 1
        self.most_open_calls = max(self.most_open_calls, self.open_calls)
        try:
            return await self._treat(request, behaviour)
        finally:
            self.open_calls -= 1

    async def _treat(self, request: web.Request, asked: Behaviour) -> web.StreamResponse:
        if asked.do is Deed.RESET_EARLY:
            return reset(request)
        arrived_s = asyncio.get_running_loop().time()
        if (request.content_length or 0) > BODY_BYTES:
            raise web.HTTPRequestEntityTooLarge(max_size=BODY_BYTES, actual_size=request.content_length or 0)
        body = await request.read()
        call = self._record(request, body, asked, arrived_s)
        await self._pause(call.behaviour.delay_ms / 1000)
        if call.accepted:
            self.accepted[call.webhook_id] += 1
        return await self._do(request, call.behaviour)

    def _record(self, request: web.Request, body: bytes, asked: Behaviour, arrived_s: float) -> ReceivedCall:
        webhook_id = request.headers.get("webhook-id", "")
        self._numbers[webhook_id] += 1
        number = self._numbers[webhook_id]
        call = ReceivedCall(
            webhook_id=webhook_id,
            timestamp=request.headers.get("webhook-timestamp", ""),
            signed=self._verify(request, body),
            path=request.path,
            arrived_s=arrived_s,
            arrived_at_ms=int(time.time() * 1000),
            body_bytes=len(body),
            body_sha256=hashlib.sha256(body).hexdigest(),
            connection=self._connection(request),
            number=number,
            behaviour=asked if asked.first is None or number <= asked.first else OBEDIENT,
            headers=tuple(request.headers.items()),
            body=body if self._keep_bodies else None,
        )
        self.calls.append(call)
        if self._on_call is not None:
            self._on_call(call)
        return call

    def _connection(self, request: web.Request) -> int:
        transport = transport_of(request)
        if transport not in self._connections:
            self._connections = {each: n for each, n in self._connections.items() if not each.is_closing()}
            self.connections += 1
            self._connections[transport] = self.connections
        return self._connections[transport]

    def _verify(self, request: web.Request, body: bytes) -> bool | None:
        if not self._webhooks:
            return None
        return any(_signed_by(webhook, request, body) for webhook in self._webhooks)

    async def _pause(self, seconds: float) -> None:
        """Wait, but not beyond the receiver's end."""
        if seconds > 0:
            waiting = asyncio.ensure_future(self._closing.wait())
            await asyncio.wait([waiting], timeout=seconds)
            waiting.cancel()

    async def _do(self, request: web.Request, behaviour: Behaviour) -> web.StreamResponse:
        match behaviour.do:
            case Deed.HANG:
                await self._closing.wait()
                return reset(request)
            case Deed.RESET:
                return reset(request)
            case Deed.CLOSE:
                return raw(request, b"")
            case Deed.DRIP:
                return await self._drip(request, head(behaviour.status, b"Content-Length: 1000000\r\n\r\n"))
            case Deed.DRIP_HEADERS:
                return await self._drip(request, head(behaviour.status, b""))
            case _:
                return answer(request, behaviour)

    async def _drip(self, request: web.Request, head: bytes) -> web.StreamResponse:
        transport = transport_of(request)
        transport.write(head)
        while not transport.is_closing() and not self._closing.is_set():
            transport.write(b"x")
            await self._pause(DRIP_INTERVAL_S)
        return reset(request)

    async def _show_calls(self, _: web.Request) -> web.Response:
        return web.json_response(
            {
                "calls": len(self.calls),
                "ids": len(self._numbers),
                "accepted": sum(self.accepted.values()),
                "duplicates": self.duplicates(),
                "unsigned": sum(call.signed is False for call in self.calls),
                "connections": self.connections,
            }
        )

    async def _set_behaviour(self, request: web.Request) -> web.Response:
        asked = dict(request.query)
        path = asked.pop("path", None)
        try:
            behaviour = parse_behaviour(asked)
        except BehaviourError as error:
            return web.Response(status=400, text=f"{error}\n")
        if path is None:
            self.behaviour = behaviour
        else:
            self.paths[path] = behaviour
        return web.Response(status=204)


def _signed_by(webhook: Webhook, request: web.Request, body: bytes) -> bool:
    try:
        webhook.verify(body, {name.lower(): value for name, value in request.headers.items()})
    except (WebhookVerificationError, ValueError):  # the latter at headers or bytes that are not text
        return False
    return True
