"""Where callbacks go, as far as the URL itself tells: what is asked for, literals, and allowed ports."""

import re
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final

import structlog
from yarl import URL

from services.callback.forbidden import ForbiddenAddressError
from services.callback.http_settings import CallbackHttpSettings, parse_ports
from shared.domain.address_policy import AddressPolicy, parse_networks

log = structlog.get_logger()

__all__ = ["TargetPolicy", "call_url", "canonical_host", "target_policy"]

_AUTHORITY: Final = re.compile(r"[^:/?#]+://[^/?#]*")


@dataclass(frozen=True, slots=True)
class TargetPolicy:
    """Allowed addresses, and allowed ports unless empty."""

    addresses: AddressPolicy
    ports: frozenset[int] = frozenset()

    def check_url(self, url: URL) -> None:
        """Vet what can be vetted before a name is resolved. `url` is what the client is given.

        Raises:
            ForbiddenAddressError: the call must not be made.
        """
        host = (url.raw_host or "").lower()
        problem = self.addresses.literal_problem(host)
        if problem is not None:
            raise ForbiddenAddressError(f"{host} is {problem}; see CONSUMA_CALLBACK_ALLOW")
        if self.ports and url.port not in self.ports:
            raise ForbiddenAddressError(f"port {url.port} is not among CONSUMA_CALLBACK_PORTS")

    def check_address(self, text: str) -> None:
        """Vet an address right before it is connected to, whichever way it came.

        Raises:
            ForbiddenAddressError: it must not be connected to.
        """
        problem = self.addresses.problem(ip_address(text))
        if problem is not None:
            log.warning("callback.address_refused", address=text, problem=problem)
            raise ForbiddenAddressError("the URL leads to an address that is not public")


def call_url(text: str) -> URL:
    """The URL that the client is given for `text`.

    Its host is in the one form that is vetted and named in the settings. What is asked of the host is `text`
    byte for byte, where that is ASCII: receivers sign and route by what they are sent, and `%2F` is no `/`.

    Raises:
        ValueError: `text` is no URL.
    """
    url = canonical_host(URL(text))
    authority = _AUTHORITY.match(text)
    if not text.isascii() or authority is None:
        return url
    target = text[authority.end() :].partition("#")[0]
    return url.with_path(target if target.startswith("/") else f"/{target}", encoded=True)


def canonical_host(url: URL) -> URL:
    """`url` without the final dots of its host: they lead to the same host under another name.

    Raises:
        ValueError: the host cannot be read.
    """
    host = url.host or ""
    return url.with_host(host.rstrip(".")) if host.endswith(".") else url


def target_policy(settings: CallbackHttpSettings) -> TargetPolicy:
    """The policy that the settings, which are valid, describe."""
    addresses = AddressPolicy(parse_networks(settings.callback_allow))
    return TargetPolicy(addresses, parse_ports(settings.callback_ports))
