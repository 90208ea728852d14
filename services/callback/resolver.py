"""Names to addresses that may be connected to: resolved, vetted, and pinned to what was vetted.

The client connects to the very addresses given here, so that a name cannot lead elsewhere a moment later.
Lookups are datagrams in the air, not threads: a name server that hangs holds up nobody but who asked for its
names, and none of them waits for another. So a lookup begins at once or not at all.
"""

import contextlib
import socket
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from ipaddress import ip_address
from typing import Final

import aiodns
import pycares
import structlog
from aiohttp.abc import AbstractResolver, ResolveResult

from services.callback.call import NotBegunError
from shared.domain.address_policy import AddressPolicy

__all__ = ["Lookup", "NoAddressError", "SystemLookup", "VettingResolver"]

log = structlog.get_logger()

MOST: Final = 4_000
"""Lookups under way at a time. Each costs some kilobytes and a number of 16 bits."""

MOST_OF_ZONE: Final = 1_000
"""Of them, for names with the same last two labels, which mostly have the same name servers."""

PATIENCE_S: Final = 2.0
TRIES: Final = 2
"""The second try waits twice as long, so that a name server is given up after six seconds."""

NOT_THERE: Final = frozenset(
    {pycares.errno.ARES_ENOTFOUND, pycares.errno.ARES_ENODATA, pycares.errno.ARES_EBADNAME}
)
NO_SERVER: Final = frozenset(
    {
        pycares.errno.ARES_ECONNREFUSED,
        pycares.errno.ARES_ENOMEM,
        pycares.errno.ARES_ECANCELLED,
        pycares.errno.ARES_EDESTRUCTION,
        pycares.errno.ARES_EFILE,
    }
)
"""No name server can be reached, or no descriptor is left to reach it with."""

Lookup = Callable[[str], Awaitable[Sequence[str]]]
"""All addresses of a name, as text. Raises OSError when it has none, NotBegunError when that is not known."""


class NoAddressError(OSError):
    """A name that is not there, or leads to nothing that may be reached: who submits is not told which."""

    def __init__(self) -> None:
        super().__init__("the name leads to no public address")


class SystemLookup:
    """The name servers, search domains and hosts file of the system, asked by c-ares.

    Args:
        servers: name servers to ask instead, as host:port.
    """

    def __init__(self, servers: Sequence[str] = ()) -> None:
        self._servers = servers
        self._resolver: aiodns.DNSResolver | None = None
        self._zones: Counter[str] = Counter()

    @property
    def under_way(self) -> int:
        """Lookups that have begun and not ended."""
        return self._zones.total()

    async def __call__(self, host: str) -> Sequence[str]:
        """The addresses of `host`, in the order in which they should be tried. Callers bound the wait.

        Raises:
            NoAddressError: there is no such name, or it has no address.
            OSError: its name servers do not answer, or fail.
            NotBegunError: there is no name server to ask, or too many lookups are under way.
        """
        zone = _zone(host)
        if self._zones[zone] >= MOST_OF_ZONE or self._zones.total() >= MOST:
            raise NotBegunError(f"{self._zones.total()} lookups are under way, {self._zones[zone]} of {zone}")
        self._zones[zone] += 1
        try:
            found = await self._ask().getaddrinfo(host, type=socket.SOCK_STREAM)
        except aiodns.error.DNSError as error:
            raise _problem(*error.args) from None
        finally:
            self._forget(zone)
        return list(dict.fromkeys(node.addr[0].decode("ascii") for node in found.nodes))

    async def close(self) -> None:
        """End what is under way."""
        if self._resolver is not None:
            await self._resolver.close()

    def _ask(self) -> aiodns.DNSResolver:
        if self._resolver is None:
            self._resolver = aiodns.DNSResolver(self._servers or None, timeout=PATIENCE_S, tries=TRIES)
        return self._resolver

    def _forget(self, zone: str) -> None:
        self._zones[zone] -= 1
        if not self._zones[zone]:
            del self._zones[zone]


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
            NoAddressError: it has none that may be reached. The log alone says which it has.
            OSError: that could not be found out.
            NotBegunError: nobody could be asked.
        """
        problems = {address: self._problem(address) for address in await self._lookup(host)}
        vetted = [address for address, problem in problems.items() if problem is None]
        if not vetted:
            log.info("callback.address_refused", host=host, addresses=problems, see="CONSUMA_CALLBACK_ALLOW")
            raise NoAddressError
        return [_result(host, address, port) for address in vetted]

    async def close(self) -> None:
        """Nothing is held here."""

    def _problem(self, address: str) -> str | None:
        with contextlib.suppress(ValueError):
            return self._policy.problem(ip_address(address))
        return "not an address"


def _problem(number: int, words: str) -> Exception:
    if number in NOT_THERE:
        return NoAddressError()
    if number in NO_SERVER:
        return NotBegunError(f"no name server can be asked: {words}")
    return OSError("no name server answered for the name")


def _zone(host: str) -> str:
    """What is likely to have one owner and the same name servers: the last two labels."""
    return ".".join(host.rstrip(".").lower().rsplit(".", 2)[-2:])


def _result(host: str, address: str, port: int) -> ResolveResult:
    return ResolveResult(
        hostname=host,
        host=address,
        port=port,
        family=socket.AF_INET6 if ":" in address else socket.AF_INET,
        proto=socket.IPPROTO_TCP,
        flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
    )
