"""Ending what belongs to the client library: it may hang, or raise the cancellation of a task of its own."""

import asyncio
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, Final

from aiokafka.errors import KafkaError

__all__ = ["end_bounded", "is_cancelled", "own_cancellations_only"]

CANCEL_TIMEOUT_S: Final = 1.0


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
