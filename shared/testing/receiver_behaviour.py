"""How a receiver under test behaves: written as a query string, `do=hang` or `status=503&retry_after=2`."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final, TypeVar

__all__ = ["OBEDIENT", "Behaviour", "BehaviourError", "Deed", "parse_behaviour"]


class Deed(StrEnum):
    """What the receiver does with a call."""

    ANSWER = "answer"
    """Answers with `status` after `delay_ms`."""
    HANG = "hang"
    """Reads the request and never answers."""
    DRIP = "drip"
    """Answers with `status` and a body that never ends, a byte at a time."""
    DRIP_HEADERS = "drip-headers"
    """The same with its headers."""
    RESET = "reset"
    """Reads the request and resets the connection."""
    RESET_EARLY = "reset-early"
    """Resets the connection before it has read the body."""
    CLOSE = "close"
    """Reads the request and closes the connection without an answer."""
    TRUNCATE = "truncate"
    """Promises a longer body than it sends."""
    GARBAGE = "garbage"
    """Answers with bytes that are no HTTP."""
    HUGE_HEADER = "huge-header"
    """Answers with one header of 200 kB."""
    MANY_HEADERS = "many-headers"
    """Answers with 10,000 headers."""
    BOMB = "bomb"
    """Answers with a small gzip body that inflates to 16 MiB."""
    FLOOD = "flood"
    """Answers with a body of 16 MiB."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Behaviour:
    """One way to behave. `first` limits it to the first calls of every webhook id; later ones get a 200.

    `delivery` is the value of the header `webhook-delivery`; `keep` False closes the connection after the
    answer.
    """

    do: Deed = Deed.ANSWER
    status: int = 200
    delay_ms: float = 0.0
    retry_after: str | None = None
    location: str | None = None
    delivery: str | None = None
    cookie: str | None = None
    body: str = ""
    keep: bool = True
    first: int | None = None

    def headers(self) -> dict[str, str]:
        """The headers of an ordinary answer."""
        named = {
            "Retry-After": self.retry_after,
            "Location": self.location,
            "webhook-delivery": self.delivery,
            "Set-Cookie": self.cookie,
        }
        return {name: value for name, value in named.items() if value is not None}


OBEDIENT: Final = Behaviour()
Number = TypeVar("Number", int, float)

_TRUE: Final = ("1", "true", "yes")
_FALSE: Final = ("0", "false", "no")


class BehaviourError(ValueError):
    """A behaviour was asked for that does not exist."""


def parse_behaviour(asked: Mapping[str, str], base: Behaviour = OBEDIENT) -> Behaviour:
    """`base`, changed as `asked` says.

    Raises:
        BehaviourError: an unknown name, or a value that does not fit it.
    """
    unknown = sorted(set(asked) - set(_READ))
    if unknown:
        raise BehaviourError(f"unknown: {', '.join(unknown)}; known are {', '.join(sorted(_READ))}")
    changed = base
    for name, text in asked.items():
        changed = _changed(changed, name, text)
    return changed


def _changed(base: Behaviour, name: str, text: str) -> Behaviour:
    try:
        return replace(base, **{name: _READ[name](text)})  # type: ignore[arg-type]  # the table has the types
    except ValueError as error:
        known = f"; known are {', '.join(Deed)}" if name == "do" else ""
        raise BehaviourError(f"{name}={text}: {error}{known}") from None


def _between(number: Number, least: Number, most: Number) -> Number:
    if not least <= number <= most:
        raise ValueError(f"must be from {least} to {most}")
    return number


def _truth(text: str) -> bool:
    if text.lower() not in _TRUE + _FALSE:
        raise ValueError("must be true or false")
    return text.lower() in _TRUE


_READ: Final[Mapping[str, Callable[[str], object]]] = {
    "do": Deed,
    "status": lambda text: _between(int(text), 100, 999),
    "delay_ms": lambda text: _between(float(text), 0.0, 3_600_000.0),
    "first": lambda text: _between(int(text), 0, 1_000_000),
    "keep": _truth,
    "retry_after": str,
    "location": str,
    "delivery": str,
    "cookie": str,
    "body": str,
}
