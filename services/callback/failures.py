"""From an exception of the HTTP client to the error class that retrying is decided by.

The exception itself decides, together with whether anything of the request had been handed to the network:
what was sent may have been acted on, what was not has not. What this process, its name servers or its proxy
lack is no failure of the receiver. Anything unknown is class `protocol`, so that no receiver can raise an
exception in the consumer.
"""

import errno
import os
import ssl
from dataclasses import dataclass, field
from typing import Final

import aiohttp

from services.callback.call import Answer, CallFailure, NotBegun, NotBegunError
from services.callback.forbidden import ForbiddenAddressError
from services.callback.resolver import NoAddressError
from shared.domain.retry_policy import ErrorClass

__all__ = ["Progress", "classify"]

MESSAGE_CHARS: Final = 300
EXHAUSTED: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
"""This process or system has no descriptor or memory left for one more connection."""

UNREACHED: Final = (502, 503, 504)
"""A forward proxy that answers so to CONNECT was not able to reach the receiver."""


@dataclass(slots=True)
class Progress:
    """How far a call has come.

    `sending` is set before the first byte leaves, `answer` by the headers; `unasked` when the receiver spoke
    before any byte had left. `proxied` calls go through a forward proxy.
    """

    tls: bool = False
    proxied: bool = False
    sending: bool = False
    unasked: bool = False
    answer: Answer | None = None
    body: bytearray = field(default_factory=bytearray)


def classify(error: Exception, progress: Progress) -> CallFailure | NotBegun:
    """What `error` says about a call that came as far as `progress`."""
    missing = None if progress.sending else _missing(error, proxied=progress.proxied)
    if missing is not None:
        return NotBegun(message=missing)
    error_class, message = _classify(error, progress)
    return CallFailure(error_class=error_class, message=_printable(message)[:MESSAGE_CHARS])


def _missing(error: Exception, *, proxied: bool) -> str | None:
    """What of ours was missing, if that is why nothing was sent."""
    match error:
        case NotBegunError():
            return str(error)
        case aiohttp.ClientHttpProxyError() if error.status not in UNREACHED:
            return f"the forward proxy answered {error.status} to CONNECT"
        case aiohttp.ClientProxyConnectionError():
            return f"the forward proxy cannot be reached: {_reason(error)}"
        case aiohttp.ClientConnectorDNSError() if proxied:
            return f"the forward proxy's name could not be resolved: {_reason(error)}"
        case aiohttp.ClientOSError() | OSError() if error.errno in EXHAUSTED:
            return f"no connection can be opened: {_reason(error)}"
    return None


def _classify(error: Exception, progress: Progress) -> tuple[ErrorClass, str]:
    match error:
        case ForbiddenAddressError():
            return ErrorClass.FORBIDDEN, str(error)
        case TimeoutError():
            return _timeout(sending=progress.sending)
        case aiohttp.ClientConnectorError():
            return _not_connected(error, tls=progress.tls)
        case aiohttp.ClientHttpProxyError():
            return (
                ErrorClass.REFUSED,
                f"the forward proxy cannot reach the receiver: it answers {error.status}",
            )
        case aiohttp.ClientResponseError():
            return ErrorClass.PROTOCOL, f"the answer is not HTTP: {error.message}"
        case aiohttp.ClientConnectionError() | OSError():
            return _lost(error, progress)
        case _:
            return ErrorClass.PROTOCOL, f"the call failed: {type(error).__name__}"


def _timeout(*, sending: bool) -> tuple[ErrorClass, str]:
    if sending:
        return ErrorClass.TIMEOUT_RESPONSE, "no answer in time after the request was sent"
    return ErrorClass.TIMEOUT_CONNECT, "no connection in time; nothing was sent"


def _not_connected(error: aiohttp.ClientConnectorError, *, tls: bool) -> tuple[ErrorClass, str]:
    """A handshake that ends early is the peer's TLS at fault, though it shows as a broken connection."""
    reason = _reason(error)
    match error:
        case aiohttp.ClientConnectorDNSError():
            return ErrorClass.DNS, _unresolved(error)
        case aiohttp.ClientConnectorCertificateError() | aiohttp.ClientSSLError():
            return ErrorClass.TLS, f"no trusted TLS connection: {reason}"
    match error.os_error:
        case TimeoutError():
            return _timeout(sending=False)
        case ConnectionResetError() | ConnectionAbortedError() | BrokenPipeError() if tls:
            return ErrorClass.TLS, f"the TLS handshake broke off: {reason}"
        case _:
            return ErrorClass.REFUSED, f"no connection: {reason}"


def _unresolved(error: aiohttp.ClientConnectorDNSError) -> str:
    """The same for a name that is not there and one that leads to what is not public: which, is not told."""
    if isinstance(error.os_error, NoAddressError):
        return str(error.os_error)
    return "no name server answered for the name"


def _lost(error: Exception, progress: Progress) -> tuple[ErrorClass, str]:
    if progress.unasked and not progress.sending:
        return ErrorClass.PROTOCOL, "the receiver speaks before it is asked; nothing was sent"
    if progress.sending:
        return ErrorClass.RESET, f"the connection broke after the request was sent: {_reason(error)}"
    return ErrorClass.REFUSED, f"the connection broke before anything was sent: {_reason(error)}"


def _reason(error: BaseException) -> str:
    """The system's words where there are any; never the client's, which quote URLs and addresses."""
    inner = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
    if isinstance(inner, OSError) and not isinstance(inner, ssl.SSLError) and inner.errno:
        return os.strerror(inner.errno)
    if isinstance(inner, OSError) and inner.strerror:
        return inner.strerror
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return str(error.certificate_error)
    return (
        "closed by the receiver"
        if isinstance(error, aiohttp.ServerDisconnectedError)
        else type(inner).__name__
    )


def _printable(text: str) -> str:
    return "".join(character if character.isprintable() else " " for character in text)
