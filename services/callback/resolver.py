"""Names to addresses that may be connected to: resolved, vetted, and pinned to what was vetted.

The client connects to the very addresses given here, so that a name cannot lead elsewhere a moment later.
Lookups have threads of their own. The event loop's are few and shared with everything else, and a name
server that hangs would stop all of it.
"""

import asyncio
import contextlib
import socket
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from ipaddress import ip_address
from typing import Final

from aiohttp.abc import AbstractResolver, ResolveResult

from services.callback.forbidden import ForbiddenAddressError
from shared.domain.address_policy import AddressPolicy

__all__ = ["Lookup", "SystemLookup", "VettingResolver"]

LOOKUP_THREADS: Final = 32
DOMAIN_THREADS: Final = 4
"""Of them, for the names below one domain."""

Lookup = Callable[[str], Awaitable[Sequence[str]]]
"""All addresses of a name, as text. Raises OSError when it has none."""


class SystemLookup:
    """The system's resolver, in threads of its own.

    A lookup cannot be cancelled: its thread is busy until the name server answers or the system gives up,
    long after the caller has. So the names below one domain share a few threads, and a name server that
    hangs stops its own names alone.
    """

    def __init__(self, lookup: Callable[[str], Sequence[str]] | None = None) -> None:
        self._lookup = lookup or _addresses
        self._threads = ThreadPoolExecutor(LOOKUP_THREADS, thread_name_prefix="lookup")
        self._places: dict[str, asyncio.Semaphore] = {}
        self._users: Counter[str] = Counter()

    async def __call__(self, host: str) -> Sequence[str]:
        """The addresses of `host`, in the order in which the system prefers them. Callers bound the wait."""
        loop = asyncio.get_running_loop()
        domain = _domain(host)
        self._users[domain] += 1
        place = self._places.setdefault(domain, asyncio.Semaphore(DOMAIN_THREADS))
        try:
            await place.acquire()
        except asyncio.CancelledError:
            self._forget(domain)
            raise
        found = self._threads.submit(self._lookup, host)
        found.add_done_callback(lambda _: self._in_loop(loop, domain, place))
        return await asyncio.wrap_future(found)

    def close(self) -> None:
        """Start no lookup any more."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _in_loop(self, loop: asyncio.AbstractEventLoop, domain: str, place: asyncio.Semaphore) -> None:
        """Called by the thread that has become free."""
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(self._leave, domain, place)

    def _leave(self, domain: str, place: asyncio.Semaphore) -> None:
        place.release()
        self._forget(domain)

    def _forget(self, domain: str) -> None:
        self._users[domain] -= 1
        if not self._users[domain]:
            del self._users[domain], self._places[domain]


class VettingResolver(AbstractResolver):
    """Gives the client those addresses of a name that `policy` allows."""

    def __init__(self, policy: AddressPolicy, lookup: Lookup) -> None:
        self._policy = policy
        self._lookup = lookup

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """The vetted addresses of `host`.

        Raises:
            ForbiddenAddressError: it has addresses, but none that may be reached.
            OSError: it has none.
        """
        addresses = await self._lookup(host)
        problems = {address: self._problem(address) for address in addresses}
        vetted = [address for address, problem in problems.items() if problem is None]
        if addresses and not vetted:
            address, problem = next(iter(problems.items()))
            raise ForbiddenAddressError(f"{host} leads to {address}, {problem}; see CONSUMA_CALLBACK_ALLOW")
        return [_result(host, address, port) for address in vetted]

    async def close(self) -> None:
        """Nothing is held here."""

    def _problem(self, address: str) -> str | None:
        with contextlib.suppress(ValueError):
            return self._policy.problem(ip_address(address))
        return "not an address"


def _domain(host: str) -> str:
    """What is likely to have one owner and one name server: the last two labels."""
    return ".".join(host.rstrip(".").lower().rsplit(".", 2)[-2:])


def _addresses(host: str) -> Sequence[str]:
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for _, _, _, _, address in found))


def _result(host: str, address: str, port: int) -> ResolveResult:
    return ResolveResult(
        hostname=host,
        host=address,
        port=port,
        family=socket.AF_INET6 if ":" in address else socket.AF_INET,
        proto=socket.IPPROTO_TCP,
        flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
    )
