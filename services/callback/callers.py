"""Who asks for a delivery, and where it goes, as far as shares of all calls are concerned."""

from collections import OrderedDict
from collections.abc import Sequence
from typing import Final
from urllib.parse import urlsplit

from services.callback.origin_queue import Caller
from services.callback.ports import Where
from services.callback.resolver import Lookup
from shared.domain.callbacks import Delivery

__all__ = ["SeenAddresses", "caller_of", "submitter_of"]

HOSTS_KEPT: Final = 10_000


class SeenAddresses:
    """A lookup that remembers the address to which each name led last."""

    def __init__(self, lookup: Lookup) -> None:
        self._lookup = lookup
        self._seen: OrderedDict[str, str] = OrderedDict()

    async def __call__(self, host: str) -> Sequence[str]:
        """The addresses of `host`. Raises as the lookup does."""
        addresses = await self._lookup(host)
        if addresses:
            self._seen[host] = addresses[0]
            self._seen.move_to_end(host)
            if len(self._seen) > HOSTS_KEPT:
                self._seen.popitem(last=False)
        return addresses

    def of(self, host: str) -> str:
        """The address of `host`, or the host itself as long as it is not known."""
        return self._seen.get(host, host)


def submitter_of(delivery: Delivery) -> str:
    """Whose delivery it is: limits, breakers and decisions of receivers hold for a submitter and its URL."""
    return delivery.source


def caller_of(delivery: Delivery, origin: str, where: Where, seen: SeenAddresses) -> Caller:
    """`delivery`, which goes to `origin`, as its limits see it."""
    host = urlsplit(origin).hostname or origin
    return Caller(
        submitter=submitter_of(delivery),
        address=seen.of(host),
        partition=where.partition,
        size=where.size,
    )
