"""Keeps the event loop responsive: a fetched batch is taken up in small portions, with room in between."""

import asyncio
from collections import deque
from typing import Final

__all__ = ["PORTION", "PORTION_BYTES", "StartThrottle"]

PORTION: Final = 8
"""Records begun in one round of the event loop: about half a millisecond of it."""

PORTION_BYTES: Final = 32 * 1024
"""Bytes of records after which a round begins no more. What is decoded on the loop costs at most 0.3 ms per
KiB and has at most 16 KiB, so that the worst round takes less than 20 ms."""


class StartThrottle:
    """Lets a few records, or a few bytes, pass in each round of the event loop; the others follow in order.

    The first record of a round passes, whatever its size.

    Args:
        portion: how many records pass in one round.
        portion_bytes: after how many bytes no further one passes.
    """

    def __init__(self, portion: int = PORTION, portion_bytes: int = PORTION_BYTES) -> None:
        self._portion = portion
        self._portion_bytes = portion_bytes
        self._left = portion
        self._bytes_left = portion_bytes
        self._refill_is_due = False
        self._waiting: deque[tuple[asyncio.Future[None], int]] = deque()

    async def step(self, size_bytes: int) -> None:
        """Wait until a record of that size may pass."""
        if not self._refill_is_due:
            self._refill_is_due = True
            asyncio.get_running_loop().call_soon(self._refill)
        if self._has_room() and not self._waiting:
            self._take(size_bytes)
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append((turn, size_bytes))
        await turn

    def _has_room(self) -> bool:
        return self._left > 0 and self._bytes_left > 0

    def _take(self, size_bytes: int) -> None:
        self._left -= 1
        self._bytes_left -= size_bytes

    def _refill(self) -> None:
        self._left, self._bytes_left = self._portion, self._portion_bytes
        while self._waiting and self._has_room():
            turn, size_bytes = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                self._take(size_bytes)
        self._refill_is_due = bool(self._waiting)
        if self._refill_is_due:
            asyncio.get_running_loop().call_soon(self._refill)
