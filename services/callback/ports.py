"""What the log's side of the callback service asks of the HTTP side.

The log's side knows deliveries, attempts and tiers; the HTTP side knows destinations. Between them stands
one call, which says what came of a delivery and never raises for anything that a receiver does.
"""

from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Protocol

from shared.domain.callbacks import Delivery, FailedAttempt, SuccessfulAttempt

__all__ = [
    "ALONE",
    "DeferralReason",
    "Deferred",
    "Disabled",
    "Dispatched",
    "Dispatcher",
    "Ownership",
    "Where",
]


class DeferralReason(StrEnum):
    """Why a delivery was put off before it was attempted."""

    QUEUE_FULL = "queue_full"
    BREAKER_OPEN = "breaker_open"
    RATE_LIMITED = "rate_limited"
    NOT_BEGUN = "not_begun"
    """Something of ours is missing: descriptors, a name server, the forward proxy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Deferred:
    """Not attempted, and no attempt spent. Pointless before `not_before_ms`; 0 leaves it to the tiers."""

    reason: DeferralReason
    not_before_ms: int = 0


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


class Ownership(Protocol):
    """Whether deliveries are still this process's to make: one that was stopped for long cannot know."""

    def ownership_is_proven(self) -> bool:
        """Whether that was confirmed lately: to be asked right before a call."""

    async def prove_ownership(self) -> None:
        """Return once it is; what is not ours any more is cancelled instead."""


class _Alone:
    """Nobody else could make them."""

    def ownership_is_proven(self) -> bool:
        return True

    async def prove_ownership(self) -> None:
        pass


ALONE: Final = _Alone()
"""The ownership of a dispatcher that is used by itself."""


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

    def dispatch(self, delivery: Delivery, where: Where) -> AbstractAsyncContextManager[Dispatched]:
        """Send `delivery`, whose record lies there, once, unless it has to wait or must not be sent.

        Entered with what came of it, within the total deadline of an attempt and the bounded wait in its
        destination's queue, unless the log is away, which is waited for. Raises only when it is cancelled or,
        `ReleaseRecord`, released. What came of it is to be recorded before the exit: how many attempts of an
        origin are unrecorded is bounded, as a death repeats them.
        """
