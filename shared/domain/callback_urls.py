"""What a callback URL must look like before anybody resolves its name."""

from typing import Final
from urllib.parse import urlsplit, urlunsplit

__all__ = ["MAX_URL_LENGTH", "callback_url_problem", "shown_url"]

MAX_URL_LENGTH: Final = 2_048
_SCHEMES: Final = ("http", "https")


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
    return "port 0 cannot be called" if port == 0 else None


def shown_url(url: str) -> str:
    """`url` for people and logs: what may be a credential, the query and a user name, is left out."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "(not a URL)"
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit((parts.scheme, host, parts.path, "…" if parts.query else "", ""))
