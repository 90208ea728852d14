"""Which addresses a callback may reach: public ones, and what the operator allows besides.

An address is judged with every IPv4 address that it carries inside (mapped, translated or tunnelled), since
that is where its packets end up. Host literals are read in every notation that some resolver understands.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final

__all__ = ["Address", "AddressPolicy", "Network", "embedded_ipv4", "parse_literal", "parse_networks"]

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

_FORBIDDEN_IPV4: Final[tuple[tuple[IPv4Network, str], ...]] = tuple(
    (IPv4Network(text), name)
    for text, name in (
        ("0.0.0.0/8", "an unspecified address"),
        ("10.0.0.0/8", "a private address"),
        ("100.64.0.0/10", "a carrier-grade NAT address"),
        ("127.0.0.0/8", "a loopback address"),
        ("168.63.129.16/32", "a metadata service"),
        ("169.254.169.254/32", "a metadata service"),
        ("169.254.0.0/16", "a link-local address"),
        ("172.16.0.0/12", "a private address"),
        ("192.0.0.0/24", "a reserved address"),
        ("192.0.2.0/24", "a documentation address"),
        ("192.88.99.0/24", "a reserved address"),
        ("192.168.0.0/16", "a private address"),
        ("198.18.0.0/15", "a benchmarking address"),
        ("198.51.100.0/24", "a documentation address"),
        ("203.0.113.0/24", "a documentation address"),
        ("224.0.0.0/4", "a multicast address"),
        ("240.0.0.0/4", "a reserved address"),
    )
)
_FORBIDDEN_IPV6: Final[tuple[tuple[IPv6Network, str], ...]] = tuple(
    (IPv6Network(text), name)
    for text, name in (
        ("::/128", "an unspecified address"),
        ("::1/128", "a loopback address"),
        ("fc00::/7", "a private address"),
        ("fe80::/10", "a link-local address"),
        ("fec0::/10", "a private address"),
        ("ff00::/8", "a multicast address"),
        ("2001::/32", "a Teredo address"),
        ("2001::/23", "a reserved address"),
        ("2001:db8::/32", "a documentation address"),
        ("3fff::/20", "a documentation address"),
    )
)
_GLOBAL_UNICAST: Final = IPv6Network("2000::/3")
"""The only part of IPv6 that is handed out; everything else is reserved unless it is named below."""

_MAPPED: Final = IPv6Network("::ffff:0:0/96")
_COMPATIBLE: Final = IPv6Network("::/96")
_TRANSLATED: Final = IPv6Network("::ffff:0:0:0/96")
_NAT64: Final = IPv6Network("64:ff9b::/96")
_6TO4: Final = IPv6Network("2002::/16")
_TEREDO: Final = IPv6Network("2001::/32")
_CARRIERS: Final = (_MAPPED, _COMPATIBLE, _TRANSLATED, _NAT64)
"""Networks whose last 32 bits are the IPv4 address that is meant."""

_ISATAP: Final = (0x00005EFE, 0x02005EFE)
_LOW_32: Final = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class AddressPolicy:
    """`allow` are the networks that may be reached although they are not public."""

    allow: tuple[Network, ...] = ()

    def problem(self, address: Address) -> str | None:
        """Why `address` must not be connected to, or None when it may."""
        if isinstance(address, IPv6Address) and address.scope_id is not None:
            return "an address with a zone"
        if self._allowed(address):
            return None
        inner = tuple(embedded_ipv4(address))
        for each in inner:
            problem = None if self._allowed(each) else _problem_of_ipv4(each)
            if problem is not None:
                return problem
        return _problem(address, carries=bool(inner))

    def literal_problem(self, host: str) -> str | None:
        """Why the host of a URL must not be called, or None when it may, or is a name to be resolved."""
        address = parse_literal(host)
        if address is None:
            return None
        problem = self.problem(address)
        if problem is None and isinstance(address, IPv4Address) and host != str(address):
            return f"an unusual way to write {address}"
        return problem

    def _allowed(self, address: Address) -> bool:
        return any(address in network for network in self.allow)


def parse_networks(text: str) -> tuple[Network, ...]:
    """Networks, or single addresses, separated by commas.

    Raises:
        ValueError: one of them is neither.
    """
    return tuple(ip_network(part.strip(), strict=False) for part in text.split(",") if part.strip())


def parse_literal(host: str) -> Address | None:
    """The address that `host` stands for, in whatever notation; None when it is a name.

    Besides the usual ones these are the notations of `inet_aton`: one to four numbers, each decimal, octal
    or hexadecimal, the last of which fills what is left. Brackets and a final dot are ignored.
    """
    bare = host.strip("[]").rstrip(".")
    if ":" in bare:
        return _ipv6(bare)
    try:
        return IPv4Address(bare)
    except ValueError:
        return _legacy_ipv4(bare)


def embedded_ipv4(address: Address) -> Iterator[IPv4Address]:
    """Every IPv4 address that packets to `address` may end up at, by mapping, translation or a tunnel."""
    if isinstance(address, IPv4Address):
        return
    bits = int(address)
    if any(address in network for network in _CARRIERS) and bits > 1:
        yield IPv4Address(bits & _LOW_32)
    if address in _6TO4:
        yield IPv4Address(bits >> 80 & _LOW_32)
    if address in _TEREDO:
        yield IPv4Address(bits >> 64 & _LOW_32)
        yield IPv4Address(~bits & _LOW_32)
    if bits >> 32 & _LOW_32 in _ISATAP:
        yield IPv4Address(bits & _LOW_32)


def _problem(address: Address, *, carries: bool) -> str | None:
    if isinstance(address, IPv4Address):
        return _problem_of_ipv4(address)
    for network, problem in _FORBIDDEN_IPV6:
        if address in network:
            return problem
    if address in _GLOBAL_UNICAST or (carries and (address in _MAPPED or address in _NAT64)):
        return None
    return "a reserved address"


def _problem_of_ipv4(address: IPv4Address) -> str | None:
    return next((problem for network, problem in _FORBIDDEN_IPV4 if address in network), None)


def _ipv6(text: str) -> Address | None:
    try:
        return ip_address(text.replace("%25", "%", 1))
    except ValueError:
        return None


def _legacy_ipv4(text: str) -> IPv4Address | None:
    parts = text.split(".")
    if len(parts) > 4:
        return None
    numbers = [_number(part) for part in parts]
    *leading, last = numbers
    if last is None or last >= 1 << 8 * (5 - len(parts)):
        return None
    bits = last
    for position, number in enumerate(leading):
        if number is None or number > 255:
            return None
        bits |= number << 8 * (3 - position)
    return IPv4Address(bits)


def _number(text: str) -> int | None:
    """A number as `strtoul` with base 0 reads it."""
    lower = text.lower()
    try:
        if lower.startswith("0x"):
            return int(lower[2:] or "0", 16) if lower[2:].isalnum() or not lower[2:] else None
        if lower.startswith("0") and lower.isdigit():
            return int(lower, 8)
        return int(lower) if lower.isascii() and lower.isdigit() else None
    except ValueError:
        return None
