"""Texts that are costly to parse, and how long callbacks of the event loop take."""

import asyncio
import gc
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Final

import pytest

from shared import service

__all__ = ["COSTLY_INPUTS", "LONGEST_MS", "calm_collector", "costly_body", "longest_callback_ms"]

LONGEST_MS: Final = 20.0
"""The longest time that a callback may take of the loop's thread, whatever a record or a body holds."""

TRIES: Final = 3
"""The best one counts: a neighbour on the machine slows memory down, but not three times at a stretch."""


def _list(unit: bytes, size: int, last: bytes = b"1") -> bytes:
    return b"[" + unit * (size // len(unit)) + last + b"]"


COSTLY_INPUTS: Final[dict[str, Callable[[int], bytes]]] = {
    "ones": lambda size: _list(b"1,", size),
    "ones and a long integer": lambda size: _list(b"1,", size, b"1" * 19),
    "long integers": lambda size: _list(b"1" * 18 + b",", size, b"1" * 19),
    "lists": lambda size: _list(b"[],", size),
    "lists of lists": lambda size: _list(b"[[]],", size),
    "deep lists": lambda size: _list(b"[" * 30 + b"]" * 30 + b",", size),
    "too deep lists": lambda size: _list(b"[" * 32 + b"]" * 32 + b",", size),
    "objects": lambda size: _list(b'{"a":1},', size),
    "keys": lambda size: b"{" + b",".join(b'"%06x":1' % each for each in range(size // 11)) + b"}",
    "strings of brackets": lambda size: _list(b'["["],', size, b'"' + b"1" * 19 + b'"'),
    "escapes": lambda size: b'"' + b"\\n" * (size // 2) + b'"',
    "no JSON": lambda size: _list(b"[],", size, b"["),
}
"""Makers of JSON of about that many bytes."""


def costly_body(kind: str, size: int, operation: str = "hash_chain") -> bytes:
    """A bare request with such an input."""
    return b'{"operation":"' + operation.encode() + b'","input":' + COSTLY_INPUTS[kind](size) + b"}"


async def longest_callback_ms(work: Callable[[], Awaitable[object]]) -> float:
    """The longest callback while `work` is done, in ms of the thread's CPU; the best of some tries."""
    found = []
    for _ in range(TRIES):
        with _timed_callbacks() as times:
            await work()
        found.append(max(times) * 1000)
        if found[-1] < LONGEST_MS:
            break
    return min(found)


@contextmanager
def calm_collector() -> Iterator[None]:
    """The collector as services have it: a full collection takes as long as there are objects in the process.

    A test session holds many.
    """
    before = gc.get_threshold()
    service.calm_collector()
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()


@contextmanager
def _timed_callbacks() -> Iterator[list[float]]:
    times: list[float] = [0.0]
    run = asyncio.Handle._run

    def timed(handle: asyncio.Handle) -> None:
        began = time.thread_time()
        run(handle)
        times.append(time.thread_time() - began)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(asyncio.Handle, "_run", timed)
        yield times
