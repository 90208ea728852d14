"""Preparing, starting and ending what belongs to the client library.

It may hang, raise the cancellation of a task of its own, or lose a socket when it is cancelled.
"""

import asyncio
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, Final

from aiokafka.errors import KafkaError

from shared.kafka.header_names import read_any_header_names
from shared.kafka.metadata_pace import pace_metadata

__all__ = ["end_bounded", "is_cancelled", "own_cancellations_only", "prepare_library", "start_whole"]

CANCEL_TIMEOUT_S: Final = 1.0
CONNECT_PATIENCE_S: Final = 2.0


def prepare_library() -> None:
    """Mend the library's faults in this process; to be called before a client is made, and safe to repeat."""
    read_any_header_names()
    pace_metadata()


async def end_bounded(ending: Coroutine[Any, Any, object], timeout_s: float) -> BaseException | None:
    """Await `ending` for at most `timeout_s`; what went wrong is returned, never raised."""
    task = asyncio.ensure_future(ending)
    try:
        done, _ = await asyncio.wait([task], timeout=timeout_s)
    finally:
        task.cancel()
    if not done:
        await asyncio.wait([task], timeout=CANCEL_TIMEOUT_S)
        return TimeoutError(f"not ended within {timeout_s:.0f} s")
    return asyncio.CancelledError() if task.cancelled() else task.exception()


async def start_whole(starting: Coroutine[Any, Any, object]) -> None:
    """Await the start of a client. Cancelled, let it come to its end first, for a bounded time.

    Cut off while it connects, the library forgets the socket, and nobody can close it.
    """
    task = asyncio.ensure_future(starting)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await end_bounded(_outcome(task), CONNECT_PATIENCE_S)
        task.cancel()
        raise


async def _outcome(task: asyncio.Future[object]) -> None:
    await asyncio.wait([task])
    if not task.cancelled():
        task.exception()  # somebody has to look at it


def is_cancelled() -> bool:
    """Whether somebody has cancelled the running task, as opposed to something that it awaited."""
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0


@contextmanager
def own_cancellations_only() -> Iterator[None]:
    """Have a cancellation that the client library lets out be an error: else a task ends, and nobody hears.

    Raises:
        KafkaError: there was one.
    """
    try:
        yield
    except asyncio.CancelledError as error:
        if is_cancelled():
            raise
        raise KafkaError("the client library let a cancellation out") from error
