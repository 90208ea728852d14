"""Names to addresses that may be connected to: resolved, vetted, and pinned to what was vetted.

The client connects to the very addresses given here, so that a name cannot lead elsewhere a moment later.
Lookups have threads of their own. The event loop's are few and shared with everything else, and a name
server that hangs would stop all of it.
"""

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from ipaddress import ip_address
from typing import Final

from aiohttp.abc import AbstractResolver, ResolveResult

from services.callback.forbidden import ForbiddenAddressError
from shared.domain.address_policy import AddressPolicy

__all__ = ["Lookup", "SystemLookup", "VettingResolver"]

LOOKUP_THREADS: Final = 32
Lookup = Callable[[str], Awaitable[Sequence[str]]]
"""All addresses of a name, as text. Raises OSError when it has none."""


class SystemLookup:
    """The system's resolver, in threads of its own."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(LOOKUP_THREADS, thread_name_prefix="lookup")

    async def __call__(self, host: str) -> Sequence[str]:
        """The addresses of `host`, in the order in which the system prefers them."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, _addresses, host)

    def close(self) -> None:
        """Start no lookup any more."""
        self._threads.shutdown(wait=False, cancel_futures=True)


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
