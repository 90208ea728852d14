"""Waiting for something to become true, instead of for some time."""

import asyncio
import time
from collections.abc import Callable
from typing import Final

__all__ = ["until", "until_now"]

PATIENCE_S: Final = 20.0


async def until(condition: Callable[[], bool], timeout_s: float = PATIENCE_S) -> None:
    """Return when `condition` holds; fail the test when it still does not after `timeout_s`."""
    async with asyncio.timeout(timeout_s):
        while not condition():  # noqa: ASYNC110 - what is waited for sets no event
            await asyncio.sleep(0.005)


def until_now(condition: Callable[[], bool], timeout_s: float = PATIENCE_S) -> None:
    """The same where no event loop runs, or must not."""
    give_up_at = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < give_up_at, "waited in vain"
        time.sleep(0.005)
