"""Deliveries, secrets and a running client for tests over real sockets."""

import base64
import hashlib
import ssl
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import cast

from pydantic import SecretStr

from services.callback.attempts import attempt_of
from services.callback.call import Answer, Call, CallFailure, NotBegun
from services.callback.dispatcher import HttpDispatcher
from services.callback.http_client import HttpClient
from services.callback.http_settings import CallbackHttpSettings
from services.callback.ports import Dispatched, Where
from services.callback.resolver import Lookup, SystemLookup
from services.callback.targets import TargetPolicy
from shared.domain.address_policy import AddressPolicy, parse_networks
from shared.domain.callbacks import Delivery, FailedAttempt
from shared.domain.types import JsonText, Mode, RequestId
from shared.kafka.producer import LogUnavailable, SupervisedProducer
from shared.kafka.records import OutgoingRecord, Position


def secret(name: str) -> str:
    return "whsec_" + base64.b64encode(hashlib.sha256(name.encode()).digest()).decode()


def delivery(url: str, number: int = 1, *, source: str = "rest", deferrals: int = 0) -> Delivery:
    request_id = f"00000000-0000-4000-8000-{number:012d}"
    return Delivery(
        request_id=RequestId(request_id),
        mode=Mode.ASYNC,
        source=source,
        operation="primes",
        accepted_at_ms=1_700_000_000_000,
        url=url,
        webhook_id=request_id,
        body=JsonText(f'{{"id":"{request_id}","status":"succeeded","result":7}}'),
        origin="consuma.results-0-1",
        deferrals=deferrals,
    )


@asynccontextmanager
async def open_client(
    *,
    lookup: Lookup | None = None,
    allow: str = "127.0.0.0/8",
    connect_timeout_s: float = 5.0,
    ssl_context: ssl.SSLContext | None = None,
    proxy: str | None = None,
    most_idle: int = 1_000,
) -> AsyncIterator[HttpClient]:
    system = SystemLookup()
    client = HttpClient(
        TargetPolicy(AddressPolicy(parse_networks(allow))),
        lookup or system,
        connect_timeout_s=connect_timeout_s,
        ssl_context=ssl_context or ssl.create_default_context(),
        proxy=proxy,
        most_idle=most_idle,
    )
    await client.start()
    try:
        yield client
    finally:
        await client.stop()
        await system.close()


async def dispatch(dispatcher: HttpDispatcher, delivery: Delivery, *, partition: int = 0) -> Dispatched:
    """What came of a delivery, of which nothing is recorded."""
    dispatch = await dispatcher.dispatch(delivery, Where(partition, len(delivery.body)))
    dispatch.recorded()
    return dispatch.outcome


async def post(
    client: HttpClient, url: str, *, timeout_s: float = 10.0, body: bytes = b"{}"
) -> Answer | CallFailure | NotBegun:
    headers = {"Content-Type": "application/json", "webhook-id": "a", "Accept-Encoding": "identity"}
    return await client.post(Call(url=url, headers=headers, body=body, timeout_s=timeout_s))


def failed(outcome: Answer | CallFailure | NotBegun) -> FailedAttempt:
    assert not isinstance(outcome, NotBegun), outcome
    attempt = attempt_of(outcome, at_ms=0, duration_ms=0.0)
    assert isinstance(attempt, FailedAttempt)
    return attempt


class Log:
    """The log's producer as far as a dispatcher needs it, with a log that can be away."""

    def __init__(self) -> None:
        self.away = False
        self.records: list[OutgoingRecord] = []

    async def send(self, record: OutgoingRecord) -> Position:
        if self.away:
            raise LogUnavailable("away")
        self.records.append(record)
        return Position("destinations", 0, len(self.records) - 1, 0)


@asynccontextmanager
async def open_dispatcher(
    log: Log | None = None,
    *,
    secrets: Sequence[str] = ("current",),
    age_s: float = 0.0,
    clock: Callable[[], float] | None = None,
    lookup: Lookup | None = None,
    **changes: object,
) -> AsyncIterator[HttpDispatcher]:
    """A dispatcher without a log behind it: nothing is disabled at first. Its clock is late by `age_s`."""
    settings = CallbackHttpSettings(
        **{
            "webhook_secrets": SecretStr(" ".join(secret(name) for name in secrets)),
            "callback_allow": "127.0.0.0/8",
            "callback_timeout_ms": 5_000,
            **changes,
        }  # type: ignore[arg-type]
    )
    dispatcher = HttpDispatcher(
        settings, cast("SupervisedProducer", log or Log()), clock or (lambda: time.time() - age_s)
    )
    if lookup is not None:
        dispatcher._client._lookup = lookup
    await dispatcher.open_connections()
    try:
        yield dispatcher
    finally:
        await dispatcher.stop()
