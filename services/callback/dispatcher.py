"""Makes deliveries over HTTP, each within its deadline, and says what came of them."""

import ssl
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from services.callback.attempts import attempt_of
from services.callback.call import Call
from services.callback.http_client import HttpClient
from services.callback.http_settings import CallbackHttpSettings
from services.callback.ports import Dispatched
from services.callback.resolver import SystemLookup
from services.callback.signing import Signer, parse_secrets
from services.callback.targets import target_policy
from shared.domain.callback_urls import callback_url_problem
from shared.domain.callbacks import Delivery, FailedAttempt
from shared.domain.retry_policy import ErrorClass
from shared.kafka.producer import SupervisedProducer

__all__ = ["HttpDispatcher"]

USER_AGENT: Final = "consuma-callback/1"
FIXED_HEADERS: Final = {
    "Content-Type": "application/json",
    "User-Agent": USER_AGENT,
    "Accept": "*/*",
    "Accept-Encoding": "identity",
}


class HttpDispatcher:
    """The dispatcher that the service runs with.

    Args:
        settings: secrets, deadlines and limits.
        producer: appends what receivers decide about their destinations.
        clock: seconds since the epoch.

    Raises:
        SecretError: a signing secret is missing or is not one.
        TargetError: a setting of where callbacks may go cannot be read.
    """

    def __init__(
        self,
        settings: CallbackHttpSettings,
        producer: SupervisedProducer,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._settings = settings
        self._producer = producer
        self._clock = clock
        self._signer = Signer(parse_secrets(settings.webhook_secrets.get_secret_value()))
        self._targets = target_policy(settings)
        self._lookup = SystemLookup()
        self._client: HttpClient | None = None

    @property
    def ready(self) -> bool:
        """Whether deliveries can be made."""
        return self._client is not None

    async def start(self) -> None:
        """Open the pool of connections."""
        client = HttpClient(
            self._targets,
            self._lookup,
            connect_timeout_s=self._settings.callback_connect_timeout_ms / 1000,
            ssl_context=_trust(self._settings.callback_ca_file),
            proxy=self._settings.callback_proxy and self._settings.callback_proxy.get_secret_value(),
        )
        await client.start()
        self._client = client

    async def stop(self) -> None:
        """Close all connections."""
        client, self._client = self._client, None
        if client is not None:
            await client.stop()
        self._lookup.close()

    async def run(self) -> None:
        """Nothing is followed."""

    async def dispatch(self, delivery: Delivery) -> Dispatched:
        """Send `delivery` once; raises only when it is cancelled."""
        problem = callback_url_problem(delivery.url)
        if problem is not None:
            return FailedAttempt(
                error_class=ErrorClass.FORBIDDEN,
                at_ms=self._now_ms(),
                duration_ms=0.0,
                message=f"the callback URL {problem}",
            )
        return await self._attempt(delivery)

    async def _attempt(self, delivery: Delivery) -> Dispatched:
        if self._client is None:
            raise RuntimeError(f"not started; a delivery for {urlsplit(delivery.url).hostname}")
        begun = time.perf_counter()
        outcome = await self._client.post(self._call(delivery))
        duration_ms = (time.perf_counter() - begun) * 1000
        return attempt_of(outcome, at_ms=self._now_ms(), duration_ms=duration_ms)

    def _call(self, delivery: Delivery) -> Call:
        body = delivery.body.encode()
        signature = self._signer.headers(delivery.webhook_id, int(self._clock()), body)
        return Call(
            url=delivery.url,
            headers=FIXED_HEADERS | signature,
            body=body,
            timeout_s=self._settings.callback_timeout_ms / 1000,
        )

    def _now_ms(self) -> int:
        return int(self._clock() * 1000)


def _trust(ca_file: Path | None) -> ssl.SSLContext:
    """The system's certificates, and those of `ca_file`."""
    context = ssl.create_default_context()
    if ca_file is not None:
        context.load_verify_locations(ca_file)
    context.set_alpn_protocols(["http/1.1"])
    return context
