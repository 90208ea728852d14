"""The handler that a service gives to its consumer, and how a record is handled until that succeeds."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol

import structlog

from shared.kafka import metrics
from shared.kafka.backoff import backoff_s
from shared.kafka.ending import is_cancelled
from shared.kafka.records import Partition, Record

__all__ = ["PartitionHandler", "ReleaseRecord", "handle_until_success"]

log = structlog.get_logger()


class PartitionHandler(Protocol):
    """A service's work on its partitions."""

    async def on_assigned(self, partitions: frozenset[Partition]) -> None:
        """Prepare for `partitions`; none of their records is handled before this has returned.

        Called once per partition number, concurrently, with the partitions of all topics that have come
        under that number. Repeated after an exception; cancelled when the partitions are lost meanwhile.
        """

    async def handle(self, record: Record) -> None:
        """Work on `record`. Returning means that its effect is durable and the offset may be committed.

        An exception means a fault of the infrastructure: the record is handled again after a back-off. A
        handler that merely waits should raise `ReleaseRecord` once the service stops, so that the drain need
        not wait for it.
        """

    async def on_revoked(self, partitions: frozenset[Partition]) -> None:
        """Forget `partitions`: they are no longer this member's. All work on them has ended."""


class ReleaseRecord(Exception):  # noqa: N818 - a wish, not a fault
    """Raised by a handler whose service is stopping: the record is left, unfinished, to the next owner."""


async def handle_until_success(
    handle: Callable[[Record], Awaitable[None]], record: Record, *, may_release: Callable[[], bool]
) -> None:
    """Await `handle(record)`; after an exception wait and call it again, without end.

    Ends early only when the calling task is cancelled, or, by cancelling it, after `ReleaseRecord` if
    `may_release`. A cancellation that comes out of the handler itself (something that it awaited was
    cancelled) is a fault like any other.
    """
    wait = backoff_s()
    attempt = 1
    while True:
        try:
            return await handle(record)
        except asyncio.CancelledError as error:
            if is_cancelled():
                raise
            _log_fault(record, attempt, error)
        except ReleaseRecord as error:
            if may_release():
                raise asyncio.CancelledError from error
            _log_fault(record, attempt, error)
        except Exception as error:  # noqa: BLE001 - whatever it is, the record must not be lost
            _log_fault(record, attempt, error)
        attempt += 1
        await asyncio.sleep(next(wait))


def _log_fault(record: Record, attempt: int, error: BaseException) -> None:
    """Count every fault; log ever more rarely, since one outage makes every record in work fail."""
    metrics.HANDLER_RETRIES.labels(record.topic).inc()
    if attempt & (attempt - 1) == 0:
        log.warning("record.retried", record=record.position, attempt=attempt, exc_info=error)
