"""A receiver's memory as the drill judges it."""

from collections import defaultdict
from collections.abc import Mapping, Sequence

from shared.testing.drill.judging.ledger import Call
from shared.testing.receiver import ReceivedCall, Receiver

__all__ = ["ReceiverCalls"]


class ReceiverCalls:
    """The accepted calls of one path of receivers that keep bodies; `url` is of the first one."""

    def __init__(self, *receivers: Receiver, path: str = "/hook") -> None:
        self._receivers = receivers
        self._path = path

    @property
    def url(self) -> str:
        """Where the first one takes callbacks."""
        return self._receivers[0].url(self._path)

    def calls(self) -> Mapping[str, Sequence[Call]]:
        """Every accepted call so far, by `webhook-id`."""
        found: dict[str, list[Call]] = defaultdict(list)
        for call in [call for receiver in self._receivers for call in receiver.calls]:
            if call.accepted and call.path == self._path:
                found[call.webhook_id].append(_call(call))
        return found


def _call(call: ReceivedCall) -> Call:
    if call.body is None:
        raise ValueError("the receiver was not told to keep bodies")
    return Call(call.body, verified=bool(call.signed), at=call.arrived_at_ms / 1000)
