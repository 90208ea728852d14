"""What a callback URL must look like before anybody resolves its name."""

import re
from typing import Final
from urllib.parse import urlsplit, urlunsplit

from shared.domain.address_policy import parse_literal

__all__ = ["MAX_URL_LENGTH", "callback_url_problem", "shown_url"]

MAX_URL_LENGTH: Final = 2_048
_SCHEMES: Final = ("http", "https")
_LONGEST_HOST: Final = 253
_LONGEST_SHOWN: Final = 24
"""Longer first segments of a path are likely tokens, as at webhook.site."""

_LABEL: Final = re.compile(r"[a-z0-9_-]{1,63}", re.IGNORECASE)
_STRANGE: Final = re.compile(r"[^a-z0-9_.-]", re.IGNORECASE)
_NUMBER: Final = re.compile(r"[0-9]+|0x[0-9a-f]*", re.IGNORECASE)


def callback_url_problem(url: str) -> str | None:
    """Why `url` cannot be called back, in words for who sent it, or None when it can."""
    if len(url) > MAX_URL_LENGTH:
        return f"longer than {MAX_URL_LENGTH} characters"
    if any(character <= " " or character == "\x7f" for character in url):
        return "contains a space or a control character"
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        return f"not a URL: {error}"
    if parts.scheme not in _SCHEMES:
        return "must start with http:// or https://"
    if "@" in parts.netloc:
        return "must not contain a user name or password"
    if not host:
        return "names no host"
    return "port 0 cannot be called" if port == 0 else _host_problem(host)


def _host_problem(host: str) -> str | None:
    """Why no resolver and no library could call `host`. Names beyond ASCII are the client's to judge.

    A host that ends in a number is an address in some notation, or nothing at all: no such domain exists.
    """
    if ":" in host or not host.isascii():
        return None
    bare = host.rstrip(".")
    if strange := _STRANGE.search(bare):
        return f"names a host with the character {strange.group()!r}"
    labels = bare.split(".")
    if not all(_LABEL.fullmatch(label) for label in labels):
        return "names a host with an empty label, or one of more than 63 characters"
    if len(bare) > _LONGEST_HOST:
        return f"names a host of more than {_LONGEST_HOST} characters"
    if _NUMBER.fullmatch(labels[-1]) and parse_literal(bare) is None:
        return "names a host that is no address and no name"
    return None


def shown_url(url: str) -> str:
    """`url` for people and logs, without what may be a credential.

    That is the query, a user name, and what follows the first segment of the path, where Slack, Discord,
    Teams and many others put theirs.
    """
    try:
        parts = urlsplit(url)
    except ValueError:
        return "(not a URL)"
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit((parts.scheme, host, _shown_path(parts.path), "…" if parts.query else "", ""))


def _shown_path(path: str) -> str:
    first, _, rest = path.removeprefix("/").partition("/")
    shown = first if len(first) <= _LONGEST_SHOWN else "…"
    return path and f"/{shown}" + ("/…" if rest else "")
