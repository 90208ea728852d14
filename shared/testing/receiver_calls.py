"""A receiver's memory as the drill judges it."""

from collections import defaultdict
from collections.abc import Mapping, Sequence

from shared.testing.drill.ledger import Call
from shared.testing.receiver import ReceivedCall, Receiver

__all__ = ["ReceiverCalls"]


class ReceiverCalls:
    """The accepted calls of one path of a receiver that keeps bodies."""

    def __init__(self, receiver: Receiver, path: str = "/hook") -> None:
        self._receiver = receiver
        self._path = path

    @property
    def url(self) -> str:
        """Where it takes callbacks."""
        return self._receiver.url(self._path)

    def calls(self) -> Mapping[str, Sequence[Call]]:
        """Every accepted call so far, by `webhook-id`."""
        found: dict[str, list[Call]] = defaultdict(list)
        for call in self._receiver.calls:
            if call.accepted and call.path == self._path:
                found[call.webhook_id].append(_call(call))
        return found


def _call(call: ReceivedCall) -> Call:
    if call.body is None:
        raise ValueError("the receiver was not told to keep bodies")
    return Call(call.body, verified=bool(call.signed))
