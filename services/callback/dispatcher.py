"""Makes deliveries over HTTP, each within its deadline, and says what came of them.

A delivery passes, in this order: the state of its destination, the breakers, the queue of its origin, the
address policy, the call. Whatever stops it before the call spends no attempt, and nothing that a receiver
does is raised.
"""

import asyncio
import ssl
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Final

import structlog

from services.callback import http_metrics
from services.callback.attempts import attempt_of, disabling_reason
from services.callback.breakers import Breakers, Permit
from services.callback.call import Answer, Call, CallFailure, NotBegun
from services.callback.http_client import HttpClient
from services.callback.http_settings import CallbackHttpSettings
from services.callback.lane import Room
from services.callback.lanes import SHORTEST_ABSENCE_MS, Lanes, SentAwayError
from services.callback.loop_clock import LoopClock
from services.callback.origins import Origin, load_origins
from services.callback.ports import (
    ALONE,
    DeferralReason,
    Deferred,
    Disabled,
    Dispatched,
    Ownership,
    Where,
)
from services.callback.resolver import SystemLookup
from services.callback.targets import target_policy
from shared.destinations.changes import append_change, disable
from shared.destinations.directory import DestinationDirectory
from shared.domain.breaker import BreakerPolicy
from shared.domain.callback_urls import callback_url_problem
from shared.domain.callbacks import Delivery, FailedAttempt
from shared.domain.destinations import destination_id, disabled_message, identify
from shared.domain.retry_policy import ErrorClass
from shared.kafka.producer import LogError, SupervisedProducer

__all__ = ["HttpDispatcher"]

log = structlog.get_logger()

SOURCE: Final = "/consuma/callback"
PROBE_GRACE_MS: Final = 5_000
"""A probe may last as long as any attempt, and a little longer."""

FIXED_HEADERS: Final = {
    "Content-Type": "application/json",
    "User-Agent": "consuma-callback/1",
    "Accept": "*/*",
    "Accept-Encoding": "identity",
}


class HttpDispatcher:
    """The dispatcher that the service runs with.

    Args:
        settings: secrets, deadlines and limits.
        producer: appends what receivers decide about their destinations.
        clock: seconds since the epoch.
        ownership: tells whether deliveries are still this process's to make.

    Raises:
        SecretError: a signing secret is missing or is not one.
        OriginsError: the file of destinations cannot be used.
    """

    def __init__(
        self,
        settings: CallbackHttpSettings,
        producer: SupervisedProducer,
        clock: Callable[[], float] = time.time,
        ownership: Ownership = ALONE,
    ) -> None:
        self._producer = producer
        self._clock = clock
        self._ownership = ownership
        self._origins = load_origins(settings)
        self._loop_clock = LoopClock()
        self._lanes = Lanes(
            settings.callback_total_concurrency,
            Room(settings.all_queues, settings.all_queues_bytes),
            self._loop_clock,
        )
        self._breakers = Breakers(
            BreakerPolicy(
                failures=settings.breaker_failures,
                open_ms=settings.breaker_open_ms,
                max_open_ms=settings.breaker_max_open_ms,
                probe_ms=settings.callback_timeout_ms + PROBE_GRACE_MS,
            )
        )
        self._directory = DestinationDirectory(settings)
        self._lookup = SystemLookup()
        proxy = settings.callback_proxy
        self._client = HttpClient(
            target_policy(settings),
            self._lookup,
            connect_timeout_s=settings.callback_connect_timeout_ms / 1000,
            ssl_context=_trust(settings.callback_ca_file),
            proxy=proxy.get_secret_value() if proxy else None,
            most_idle=settings.callback_idle_connections,
        )

    @property
    def ready(self) -> bool:
        """Whether it is known which destinations are disabled."""
        return self._directory.ready

    async def start(self) -> None:
        """Learn which destinations are disabled, however long the log takes, and open the connections."""
        await self._directory.load()
        await self.open_connections()

    async def open_connections(self) -> None:
        """Be able to make calls."""
        await self._client.start()

    async def stop(self) -> None:
        """Close all connections."""
        await self._client.stop()
        await self._lookup.close()

    async def run(self) -> None:
        """Follow which destinations are disabled, and the pace of this process, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._directory.run())
            tasks.create_task(self._loop_clock.run())

    def release(self) -> None:
        """Let nobody wait for a call any more."""
        self._lanes.close()

    @asynccontextmanager
    async def dispatch(self, delivery: Delivery, where: Where) -> AsyncIterator[Dispatched]:
        """Send `delivery` once, unless it has to wait or must not be sent."""
        async with AsyncExitStack() as place:
            dispatched = await self._dispatch(delivery, where, place)
            yield dispatched

    async def _dispatch(self, delivery: Delivery, where: Where, place: AsyncExitStack) -> Dispatched:
        """What came of `delivery`; one that was attempted stays in its lane until `place` is left."""
        problem = callback_url_problem(delivery.url)
        if problem is not None:
            return self._unsendable(f"the callback URL {problem}")
        try:
            origin = self._origins.of(delivery.url)
        except ValueError:
            return self._unsendable("the callback URL cannot be read")
        destination = destination_id(delivery.source, delivery.url)
        disabled = self._directory.disabled(destination)
        if disabled is not None:
            return Disabled(message=disabled_message(disabled))
        return await self._when_possible(delivery, where, origin, destination, place)

    async def _when_possible(
        self, delivery: Delivery, where: Where, origin: Origin, destination: str, place: AsyncExitStack
    ) -> Dispatched:
        """Make the delivery when its breakers and its origin's limits let it, else say when to come back.

        The breakers are asked again after the wait: they may have opened meanwhile. So is the ownership: the
        process may have been stopped while it waited, and another have made the delivery.
        """
        closed_until_ms = self._breakers.closed_until(origin.name, destination, self._now_ms())
        if closed_until_ms is not None:
            return self._put_off(origin, closed_until_ms)
        try:
            while True:
                await self._ownership.prove_ownership()
                async with AsyncExitStack() as turn:
                    mine = self._lanes.turn(
                        origin.name, origin.limits, partition=where.partition, size=where.size
                    )
                    answered = await turn.enter_async_context(mine)
                    if not self._ownership.ownership_is_proven():
                        continue
                    permit = self._breakers.admit(origin.name, destination, self._now_ms())
                    if permit is None:
                        return self._put_off(origin, self._now_ms())
                    attempt = await self._attempt(delivery, origin, permit)
                    answered()
                    await place.enter_async_context(turn.pop_all())
                    return attempt
        except SentAwayError as away:
            reason = DeferralReason.RATE_LIMITED if away.by_rate else DeferralReason.QUEUE_FULL
            return Deferred(reason=reason, not_before_ms=away.not_before_ms)

    def _put_off(self, origin: Origin, until_ms: int) -> Deferred:
        earliest_ms = max(until_ms, self._now_ms() + SHORTEST_ABSENCE_MS)
        return Deferred(
            reason=DeferralReason.BREAKER_OPEN,
            not_before_ms=self._lanes.come_back_ms(origin.name, origin.limits, earliest_ms),
        )

    async def _attempt(self, delivery: Delivery, origin: Origin, permit: Permit) -> Dispatched:
        begun = time.perf_counter()
        try:
            outcome = await self._client.post(self._call(delivery, origin))
        except asyncio.CancelledError:
            self._breakers.give_back(permit, self._now_ms())
            raise
        if isinstance(outcome, NotBegun):
            self._breakers.give_back(permit, self._now_ms())
            log.warning("callback.not_begun", origin=origin.name, why=outcome.message)
            return Deferred(reason=DeferralReason.NOT_BEGUN)
        duration_ms = (time.perf_counter() - begun) * 1000
        attempt = attempt_of(outcome, at_ms=self._now_ms(), duration_ms=duration_ms)
        self._breakers.settle(permit, attempt)
        await self._heed(delivery, outcome)
        return attempt

    async def _heed(self, delivery: Delivery, outcome: Answer | CallFailure) -> None:
        """Disable the destination if its receiver wants that.

        When the log does not take it now, nothing changes: the next delivery will be answered alike.
        """
        reason = disabling_reason(outcome)
        if reason is None:
            return
        destination, shown = identify(delivery.source, delivery.url)
        event = disable(
            destination,
            submitter=delivery.source,
            url=shown,
            reason=reason,
            by="receiver",
            now_ms=self._now_ms(),
        )
        try:
            await append_change(self._producer, event, source=SOURCE)
        except LogError as error:
            log.warning("destination.not_disabled", destination=destination, url=shown, error=str(error))
            return
        self._directory.apply(event)
        http_metrics.DISABLED.inc()
        log.warning("destination.disabled", destination=destination, url=shown, reason=reason)

    def _call(self, delivery: Delivery, origin: Origin) -> Call:
        body = delivery.body.encode()
        signature = origin.signer.headers(delivery.webhook_id, int(self._clock()), body)
        return Call(
            url=delivery.url,
            headers={**FIXED_HEADERS, **origin.headers_for(delivery.url), **signature},
            body=body,
            timeout_s=origin.timeout_s,
        )

    def _unsendable(self, message: str) -> FailedAttempt:
        return FailedAttempt(
            error_class=ErrorClass.FORBIDDEN, at_ms=self._now_ms(), duration_ms=0.0, message=message
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
