"""Where callbacks may go, as far as the URL itself tells: vetted literals and allowed ports."""

from dataclasses import dataclass
from ipaddress import ip_address

from yarl import URL

from services.callback.forbidden import ForbiddenAddressError
from services.callback.http_settings import CallbackHttpSettings, parse_ports
from shared.domain.address_policy import AddressPolicy, parse_networks

__all__ = ["TargetPolicy", "target_policy"]


@dataclass(frozen=True, slots=True)
class TargetPolicy:
    """Allowed addresses, and allowed ports unless empty."""

    addresses: AddressPolicy
    ports: frozenset[int] = frozenset()

    def check_url(self, url: URL) -> None:
        """Vet what can be vetted before a name is resolved. `url` is what the client was given, normalised.

        Raises:
            ForbiddenAddressError: the call must not be made.
        """
        host = (url.host or "").lower()
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
            raise ForbiddenAddressError(f"{text} is {problem}; see CONSUMA_CALLBACK_ALLOW")


def target_policy(settings: CallbackHttpSettings) -> TargetPolicy:
    """The policy that the settings, which are valid, describe."""
    addresses = AddressPolicy(parse_networks(settings.callback_allow))
    return TargetPolicy(addresses, parse_ports(settings.callback_ports))
