"""Makes deliveries over HTTP, each within its deadline, and says what came of them.

A delivery passes, in this order: the state of its destination, the breakers, the limits of its origin, the
address policy, the call. Whatever stops it before the call spends no attempt, and nothing that a receiver
does is raised.
"""

import asyncio
import ssl
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog

from services.callback.attempts import attempt_of
from services.callback.breakers import Breakers
from services.callback.call import Call, NotBegun
from services.callback.callers import SeenAddresses, caller_of, submitter_of
from services.callback.disabling import Disabling
from services.callback.http_client import HttpClient
from services.callback.http_settings import CallbackHttpSettings
from services.callback.limiter import OriginLimiter
from services.callback.loop_clock import LoopClock
from services.callback.origin_queue import Room
from services.callback.origins import Origin, load_origins
from services.callback.permit import SHORTEST_ABSENCE_MS, Permit, SentAwayError
from services.callback.ports import (
    ALONE,
    DeferralReason,
    Deferred,
    Disabled,
    Dispatch,
    Lease,
    WaitsFor,
    Where,
)
from services.callback.readmission import Readmission
from services.callback.resolver import SystemLookup
from services.callback.targets import target_policy
from shared.destinations.directory import DestinationDirectory
from shared.domain.breaker import BreakerPolicy
from shared.domain.callback_urls import callback_url_problem
from shared.domain.callbacks import Delivery, FailedAttempt, SuccessfulAttempt
from shared.domain.destinations import destination_id
from shared.domain.retry_policy import ErrorClass
from shared.kafka.producer import SupervisedProducer

__all__ = ["HttpDispatcher"]

log = structlog.get_logger()

PROBE_GRACE_MS: Final = 5_000
"""A probe may last as long as any attempt, and a little longer."""

FIXED_HEADERS: Final = {
    "Content-Type": "application/json",
    "User-Agent": "consuma-callback/1",
    "Accept": "*/*",
    "Accept-Encoding": "identity",
}


@dataclass(frozen=True, slots=True)
class Target:
    """A delivery, and how its destination is called."""

    delivery: Delivery
    origin: Origin
    destination: str

    @property
    def waits_for(self) -> WaitsFor:
        """Where it goes."""
        return WaitsFor(self.origin.name, self.destination)


class HttpDispatcher:
    """The dispatcher that the service runs with.

    Args:
        settings: secrets, deadlines and limits.
        producer: appends what receivers decide about their destinations.
        clock: seconds since the epoch, for what is written or sent; the rest goes by the monotonic clock.
        lease: tells whether deliveries are still this process's to make.

    Raises:
        SecretError: a signing secret is missing or is not one.
        OriginsError: the file of destinations cannot be used.
    """

    def __init__(
        self,
        settings: CallbackHttpSettings,
        producer: SupervisedProducer,
        clock: Callable[[], float] = time.time,
        lease: Lease = ALONE,
    ) -> None:
        self._clock = clock
        self._lease = lease
        self._origins = load_origins(settings)
        self._loop_clock = LoopClock()
        self._breakers = Breakers(
            BreakerPolicy(
                failures=settings.breaker_failures,
                open_ms=settings.breaker_open_ms,
                max_open_ms=settings.breaker_max_open_ms,
                probe_ms=settings.callback_timeout_ms + PROBE_GRACE_MS,
            ),
            longest_hold_ms=settings.retry_after_cap_ms,
        )
        self._limiter = OriginLimiter(
            settings.most_calls,
            Room(settings.all_queues, settings.all_queues_bytes),
            self._loop_clock,
            begin_reserve=settings.begin_reserve,
        )
        self._readmission = Readmission(self._breakers, self._limiter, _monotonic_ms)
        self._limiter.on_place = self._readmission.offer
        self._disabling = Disabling(DestinationDirectory(settings), producer, clock)
        self._lookup = SystemLookup()
        self._seen = SeenAddresses(self._lookup)
        proxy = settings.callback_proxy
        self._client = HttpClient(
            target_policy(settings),
            self._seen,
            connect_timeout_s=settings.callback_connect_timeout_ms / 1000,
            ssl_context=_trust(settings.callback_ca_file),
            proxy=proxy.get_secret_value() if proxy else None,
            most_idle=settings.callback_idle_connections,
        )

    @property
    def ready(self) -> bool:
        """Whether it is known which destinations are disabled."""
        return self._disabling.directory.ready

    async def start(self) -> None:
        """Learn which destinations are disabled, however long the log takes, and open the connections."""
        await self._disabling.directory.load()
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
            tasks.create_task(self._disabling.directory.run())
            tasks.create_task(self._loop_clock.run())

    def release(self) -> None:
        """Let nobody wait for a call any more."""
        self._limiter.close()
        self._readmission.close()

    def parked(self, waits_for: WaitsFor, wake: Callable[[], None]) -> AbstractContextManager[None]:
        """While entered, `wake` is called, at most once, when that destination can take a delivery."""
        return self._readmission.parked(waits_for, wake)

    async def dispatch(self, delivery: Delivery, where: Where) -> Dispatch:
        """Send `delivery` once, unless it has to wait or must not be sent."""
        target = self._target(delivery)
        if isinstance(target, FailedAttempt):
            return Dispatch(target)
        try:
            return await self._call_when_possible(target, where)
        except SentAwayError as away:
            reason = DeferralReason.RATE_LIMITED if away.by_rate else DeferralReason.QUEUE_FULL
            return Dispatch(_deferred(target, reason, away.wait_ms, target.origin.name))

    def _target(self, delivery: Delivery) -> Target | FailedAttempt:
        """How `delivery` is made, or why it cannot be."""
        problem = callback_url_problem(delivery.url)
        if problem is not None:
            return self._unsendable(f"the callback URL {problem}")
        try:
            origin = self._origins.of(delivery.url)
        except ValueError:
            return self._unsendable("the callback URL cannot be read")
        return Target(delivery, origin, destination_id(submitter_of(delivery), delivery.url))

    async def _call_when_possible(self, target: Target, where: Where) -> Dispatch:
        """Make the delivery when its destination and its origin's limits let it, else say when to come back.

        All is asked again after the wait: the receiver may have disabled the destination meanwhile, the
        breakers may have opened, or the process have been stopped, and another have made the delivery.
        """
        refused = self._refusal(target)
        while refused is None:
            await self._lease.renew()
            with await self._acquire(target, where) as permit:
                if not self._lease.is_valid():
                    continue
                refused = self._refusal(target)
                if refused is None:
                    attempt = await self._attempt(target)
                    permit.answered()
                    return Dispatch(attempt, permit.recorded)
        return Dispatch(refused)

    async def _acquire(self, target: Target, where: Where) -> Permit:
        origin = target.origin
        return await self._limiter.acquire(
            origin.name, origin.limits, caller_of(target.delivery, origin.name, where, self._seen)
        )

    def _refusal(self, target: Target) -> Disabled | Deferred | None:
        """Why no call may be made now."""
        disabled = self._disabling.disabled(target.destination)
        if disabled is not None:
            return disabled
        now_ms = _monotonic_ms()
        refusal = self._breakers.refusal(*target.waits_for, now_ms)
        if refusal is None:
            return None
        return _deferred(target, DeferralReason.BREAKER_OPEN, refusal.until_ms - now_ms, refusal.key)

    async def _attempt(self, target: Target) -> SuccessfulAttempt | FailedAttempt | Deferred:
        admission = self._breakers.admit(*target.waits_for, _monotonic_ms())
        if admission is None:
            raise AssertionError("the breakers have just let this call go")
        begun = time.perf_counter()
        try:
            outcome = await self._client.post(self._call(target))
        except asyncio.CancelledError:
            self._breakers.give_back(admission, _monotonic_ms())
            raise
        if isinstance(outcome, NotBegun):
            self._breakers.give_back(admission, _monotonic_ms())
            log.warning("callback.not_begun", origin=target.origin.name, why=outcome.message)
            return _not_begun(target)
        duration_ms = (time.perf_counter() - begun) * 1000
        attempt = attempt_of(outcome, at_ms=self._now_ms(), duration_ms=duration_ms)
        self._breakers.settle(admission, attempt, _monotonic_ms())
        self._readmission.changed(target.waits_for)
        await self._disabling.heed(target.delivery, outcome)
        return attempt

    def _call(self, target: Target) -> Call:
        delivery, origin = target.delivery, target.origin
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


def _deferred(target: Target, reason: DeferralReason, wait_ms: int, refused_by: str) -> Deferred:
    return Deferred(
        reason=reason,
        wait_ms=max(wait_ms, SHORTEST_ABSENCE_MS),
        refused_by=refused_by,
        waits_for=target.waits_for,
    )


def _not_begun(target: Target) -> Deferred:
    """It waits for nobody's return: the destination may well be there."""
    return Deferred(
        reason=DeferralReason.NOT_BEGUN, wait_ms=SHORTEST_ABSENCE_MS, refused_by=target.origin.name
    )


def _monotonic_ms() -> int:
    return int(time.monotonic() * 1000)


def _trust(ca_file: Path | None) -> ssl.SSLContext:
    """The system's certificates, and those of `ca_file`."""
    context = ssl.create_default_context()
    if ca_file is not None:
        context.load_verify_locations(ca_file)
    context.set_alpn_protocols(["http/1.1"])
    return context
