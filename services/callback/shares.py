"""A part of all calls for each holder: no submitter and no address has more, whatever its calls take."""

from collections import Counter, OrderedDict
from collections.abc import Iterable

from services.callback.origin_queue import Caller

__all__ = ["Shares"]


class Shares:
    """Counts calls under way by submitter and by address, and which origins wait for one of them.

    Args:
        most: calls of one holder at a time.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._calls: Counter[tuple[str, str]] = Counter()
        self._waiting: dict[tuple[str, str], OrderedDict[str, None]] = {}

    def has(self, caller: Caller) -> bool:
        """Whether `caller` may have one more call."""
        return all(self._calls[holder] < self._most for holder in _holders(caller))

    def take(self, caller: Caller) -> None:
        """Count a call."""
        self._calls.update(_holders(caller))

    def free(self, caller: Caller) -> list[str]:
        """Count a call out; returns the origins that may have waited for that."""
        origins: list[str] = []
        for holder in _holders(caller):
            self._calls[holder] -= 1
            if not self._calls[holder]:
                del self._calls[holder]
            origins += self._waiting.pop(holder, {})
        return origins

    def wait(self, origin: str, caller: Caller) -> None:
        """Have `origin` named when a call of one of the holders that keep `caller` waiting has ended."""
        for holder in _holders(caller):
            if self._calls[holder] >= self._most:
                self._waiting.setdefault(holder, OrderedDict())[origin] = None


def _holders(caller: Caller) -> Iterable[tuple[str, str]]:
    named = (("submitter", caller.submitter), ("address", caller.address))
    return [(kind, name) for kind, name in named if name]
