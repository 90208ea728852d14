"""Who is let in, how many at a time, and what is told of each call."""

import asyncio
from base64 import b64encode
from typing import Any

import pytest
import structlog
from pydantic import SecretStr
from starlette.types import Message, Receive, Scope, Send

from services.ingest.guard import Guard
from services.ingest.settings import IngestSettings
from tests.support.waiting import until


class App:
    """Answers 200 once it may."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.open.set()
        self.inside = 0
        self.error: Exception | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.inside += 1
        await self.open.wait()
        if self.error is not None:
            raise self.error
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"ok"})


async def call(guard: Guard, *, host: str | None = "127.0.0.1:8000", path: str = "/v1/stats") -> int:
    """The status of a call."""
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": b""}

    async def send(message: Message) -> None:
        sent.append(message)

    headers = [] if host is None else [(b"host", host.encode())]
    scope: dict[str, Any] = {"type": "http", "method": "GET", "path": path, "headers": headers}
    await guard(scope, receive, send)
    return int(sent[0]["status"])


def guard_of(app: App, **settings: object) -> Guard:
    return Guard(app, IngestSettings().model_copy(update=settings))


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1", 200),
        ("LOCALHOST:80", 200),
        ("[::1]:8000", 200),
        ("consuma.test:1", 200),
        ("evil.example", 421),
        ("127.0.0.1.evil.example", 421),
        ("localhost@evil.example", 421),
        ("", 421),
        (None, 421),
    ],
    ids=str,
)
async def test_names_that_are_answered_to(host: str | None, status: int) -> None:
    assert await call(guard_of(App(), allowed_hosts=("consuma.test",)), host=host) == status


async def test_behind_a_gateway_names_are_its_own_affair() -> None:
    guard = guard_of(App(), listen_host="0.0.0.0", trusted_network=True)
    assert await call(guard, host="shop.example") == 200


async def test_beyond_the_bound_calls_are_refused_but_for_those_about_health() -> None:
    app = App()
    guard = guard_of(app, max_requests=2)
    app.open.clear()
    waiting = [asyncio.create_task(call(guard)) for _ in range(2)]
    await until(lambda: app.inside == 2)
    assert await call(guard) == 503
    health = asyncio.create_task(call(guard, path="/health/live"))
    app.open.set()
    assert await health == 200
    assert [await each for each in waiting] == [200, 200]
    assert await call(guard) == 200


async def test_a_fault_is_logged_and_left_to_the_server() -> None:
    app = App()
    app.error = RuntimeError("broken")
    with structlog.testing.capture_logs() as logs, pytest.raises(RuntimeError):
        await call(guard_of(app))
    assert [each["event"] for each in logs] == ["http.failed", "http.request"]


async def test_refusals_are_worth_a_line() -> None:
    with structlog.testing.capture_logs() as logs:
        await call(guard_of(App()), host="evil.example")
    [line] = logs
    assert (line["event"], line["status"], line["log_level"]) == ("http.request", 421, "info")


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.0.7", "example.com"])
def test_others_are_let_in_only_with_a_gateway_in_front(host: str) -> None:
    with pytest.raises(ValueError, match="CONSUMA_TRUSTED_NETWORK"):
        IngestSettings(listen_host=host)
    with pytest.raises(ValueError, match="CONSUMA_SUBMIT_KEYS"):
        IngestSettings(listen_host=host, trusted_network=True)
    keys = SecretStr("subkey_" + b64encode(b"k" * 32).decode())
    assert not IngestSettings(listen_host=host, trusted_network=True, submit_keys=keys).on_loopback
