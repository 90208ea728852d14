"""Keeps the event loop responsive: a fetched batch is taken up in small portions, with room in between."""

import asyncio
from collections import deque

__all__ = ["Pace"]


class Pace:
    """Lets a few callers pass in each round of the event loop; the others follow in their order.

    Args:
        portion: how many pass in one round.
    """

    def __init__(self, portion: int) -> None:
        self._portion = portion
        self._left = portion
        self._refill_is_due = False
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def step(self) -> None:
        """Wait for one's turn."""
        if not self._refill_is_due:
            self._refill_is_due = True
            asyncio.get_running_loop().call_soon(self._refill)
        if self._left > 0 and not self._waiting:
            self._left -= 1
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        await turn

    def _refill(self) -> None:
        self._left = self._portion
        while self._left and self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                self._left -= 1
        self._refill_is_due = bool(self._waiting)
        if self._refill_is_due:
            asyncio.get_running_loop().call_soon(self._refill)
