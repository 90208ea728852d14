"""The right to one call, and the refusal of it."""

from collections.abc import Callable
from types import TracebackType
from typing import Final, Self

from services.callback.origin_queue import OriginQueue

__all__ = ["SHORTEST_ABSENCE_MS", "Permit", "SentAwayError"]

SHORTEST_ABSENCE_MS: Final = 1_000


class SentAwayError(Exception):
    """No call to this origin now, nor before `wait_ms` have passed."""

    def __init__(self, wait_ms: float = SHORTEST_ABSENCE_MS, *, by_rate: bool = False) -> None:
        super().__init__(f"no call within {wait_ms:.0f} ms")
        self.wait_ms = max(int(wait_ms), SHORTEST_ABSENCE_MS)
        self.by_rate = by_rate


class Permit:
    """The right to one call. Leaving it gives it back, unless it was answered; then `recorded` does.

    Args:
        queue: of its origin.
        end_call: gives the place of a call, which this permit names, to the next one.
        leave: gives back the room of its delivery.
    """

    def __init__(
        self, queue: OriginQueue, end_call: Callable[[object], None], leave: Callable[[], None]
    ) -> None:
        self._queue = queue
        self._end_call = end_call
        self._leave = leave
        self._answered = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._answered:
            self._end_call(self)
            self._leave()

    def answered(self) -> None:
        """The call has ended: its place is the next one's, but what came of it is still to be recorded."""
        self._answered = True
        self._queue.unrecorded += 1
        self._end_call(self)

    def recorded(self) -> None:
        """What came of the call is recorded. To be called once, after `answered`."""
        self._queue.unrecorded -= 1
        self._leave()
