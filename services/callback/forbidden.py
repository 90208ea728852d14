"""The one exception by which the address policy stops a call, from wherever in the client it is found out."""

__all__ = ["ForbiddenAddressError"]


class ForbiddenAddressError(Exception):
    """Policy forbids to connect to where a callback URL leads."""
