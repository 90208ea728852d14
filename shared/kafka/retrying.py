"""Handling a record until that succeeds: a fault of the infrastructure never skips a record."""

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from shared.kafka import metrics
from shared.kafka.backoff import backoff_s
from shared.kafka.ending import is_cancelled
from shared.kafka.records import Record

__all__ = ["LeaveRecord", "until_done"]

log = structlog.get_logger()


class LeaveRecord(Exception):  # noqa: N818 - a wish, not a fault
    """Raised by a handler whose service is stopping: the record is left, unfinished, to the next owner."""


async def until_done(
    handle: Callable[[Record], Awaitable[None]],
    record: Record,
    *,
    may_leave: Callable[[], bool] = lambda: False,
) -> None:
    """Await `handle(record)`; after an exception wait and do it again, for ever.

    Ends early only when the calling task is cancelled, or, by cancelling it, after `LeaveRecord` if
    `may_leave`. A cancellation that comes out of the handler itself (something that it awaited was
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
            _note(record, attempt, error)
        except LeaveRecord as error:
            if may_leave():
                raise asyncio.CancelledError from error
            _note(record, attempt, error)
        except Exception as error:  # noqa: BLE001 - whatever it is, the record must not be lost
            _note(record, attempt, error)
        attempt += 1
        await asyncio.sleep(next(wait))


def _note(record: Record, attempt: int, error: BaseException) -> None:
    """Count every fault; log ever more rarely, since one outage makes every record in work fail."""
    metrics.HANDLER_RETRIES.labels(record.topic).inc()
    if attempt & (attempt - 1) == 0:
        log.warning("record.retried", record=record.position, attempt=attempt, exc_info=error)
