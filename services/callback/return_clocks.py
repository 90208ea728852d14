"""One clock for each origin or destination that refuses deliveries: it gives out turns to come back."""

from collections import OrderedDict
from typing import Final

from shared.domain.pacing import next_return
from shared.kafka.topics import TIER_DELAY_MS

__all__ = ["CLOCKS_KEPT", "ReturnClocks"]

CLOCKS_KEPT: Final = 10_000
"""Beyond it the one that was asked least recently is forgotten, and its next turns come sooner."""


class ReturnClocks:
    """Clocks by the name of what refuses, in memory only."""

    def __init__(self) -> None:
        self._free_ms: OrderedDict[str, dict[int, float]] = OrderedDict()

    def __len__(self) -> int:
        """How many are kept."""
        return len(self._free_ms)

    def delay_ms(self, refused_by: str, wait_ms: int, now_ms: float) -> int:
        """The delay of a tier that one which should not come back before `wait_ms` is appended to."""
        free_ms = self._free_ms.setdefault(refused_by, {})
        self._free_ms.move_to_end(refused_by)
        if len(self._free_ms) > CLOCKS_KEPT:
            self._free_ms.popitem(last=False)
        delay_ms, free_ms[delay_ms] = next_return(free_ms, TIER_DELAY_MS.values(), wait_ms, now_ms)
        return delay_ms
