"""What the log's side of the callback service asks of the HTTP side.

The log's side knows deliveries, attempts and tiers; the HTTP side knows destinations. Between them stands
one call, which says what came of a delivery and never raises for anything that a receiver does.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, NamedTuple, Protocol

from shared.domain.callbacks import Delivery, FailedAttempt, SuccessfulAttempt

__all__ = [
    "ALONE",
    "DeferralReason",
    "Deferred",
    "Disabled",
    "Dispatch",
    "Dispatched",
    "Dispatcher",
    "Lease",
    "WaitsFor",
    "Where",
]


class DeferralReason(StrEnum):
    """Why a delivery was put off before it was attempted."""

    QUEUE_FULL = "queue_full"
    BREAKER_OPEN = "breaker_open"
    RATE_LIMITED = "rate_limited"
    NOT_BEGUN = "not_begun"
    """Something of ours is missing: descriptors, a name server, the forward proxy."""


class WaitsFor(NamedTuple):
    """Where a deferred delivery is to go: an origin, and the id of a destination there."""

    origin: str
    destination: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Deferred:
    """Not attempted, and no attempt spent. Trying before `wait_ms` have passed is pointless.

    `refused_by` names the origin or destination that is busy or left alone.
    """

    reason: DeferralReason
    wait_ms: int = 0
    refused_by: str = ""
    waits_for: WaitsFor | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Disabled:
    """Not attempted: the destination is disabled for this submitter and URL. `message` says since when."""

    message: str


@dataclass(frozen=True, slots=True)
class Where:
    """Where a delivery's record takes room while it waits: its partition number, and its bytes."""

    partition: int
    size: int


Dispatched = SuccessfulAttempt | FailedAttempt | Deferred | Disabled


def _nothing() -> None:
    pass


@dataclass(frozen=True, slots=True)
class Dispatch:
    """What came of a delivery. `recorded` is to be called, once, when that is recorded or cannot be.

    How many attempts of an origin are unrecorded is bounded, as a death repeats them.
    """

    outcome: Dispatched
    recorded: Callable[[], None] = _nothing


class Lease(Protocol):
    """Whether deliveries are still this process's to make: one that was stopped for long cannot know."""

    def is_valid(self) -> bool:
        """Whether that was confirmed lately: to be asked right before a call."""

    async def renew(self) -> None:
        """Return once it is; what is not ours any more is cancelled instead."""


class _Alone:
    """Nobody else could make them."""

    def is_valid(self) -> bool:
        return True

    async def renew(self) -> None:
        pass


ALONE: Final = _Alone()
"""The lease of a dispatcher that is used by itself."""


class Dispatcher(Protocol):
    """Makes deliveries, with the limits, breakers and settings of their destinations."""

    @property
    def ready(self) -> bool:
        """Whether what it needs is there: among others, which destinations are disabled."""

    async def start(self) -> None:
        """Open what it needs. Called once, before any dispatch; a fault of the log is waited out inside."""

    async def stop(self) -> None:
        """Close it, bounded. Called once, after every dispatch has ended or was cancelled."""

    async def run(self) -> None:
        """Follow what changes (the disabled destinations) until cancelled; an exception ends the service."""

    def release(self) -> None:
        """The service stops: what waits for a call is left to the next owner, calls under way go on."""

    async def dispatch(self, delivery: Delivery, where: Where) -> Dispatch:
        """Send `delivery`, whose record lies there, once, unless it has to wait or must not be sent.

        Returns within the total deadline of an attempt and the bounded wait in its destination's queue,
        unless the log is away, which is waited for. Raises only when it is cancelled or, `ReleaseRecord`,
        released.
        """

    def parked(self, waits_for: WaitsFor, wake: Callable[[], None]) -> AbstractContextManager[None]:
        """While entered, `wake` is called, at most once, when that destination can take a delivery."""
