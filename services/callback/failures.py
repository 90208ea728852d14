"""From an exception of the HTTP client to the error class that retrying is decided by.

The exception itself decides, together with whether anything of the request had been handed to the network:
what was sent may have been acted on, what was not has not. Anything unknown is class `protocol`, so that no
receiver can raise an exception in the consumer.
"""

from dataclasses import dataclass, field
from typing import Final

import aiohttp

from services.callback.call import Answer, CallFailure
from services.callback.forbidden import ForbiddenAddressError
from shared.domain.retry_policy import ErrorClass

__all__ = ["Progress", "classify"]

MESSAGE_CHARS: Final = 300


@dataclass(slots=True)
class Progress:
    """How far a call has come.

    `sending` is set before the first byte leaves, `answer` by the headers; `unasked` when the receiver spoke
    before any byte had left.
    """

    tls: bool = False
    sending: bool = False
    unasked: bool = False
    answer: Answer | None = None
    body: bytearray = field(default_factory=bytearray)


def classify(error: Exception, progress: Progress) -> CallFailure:
    """What `error` says about a call that came as far as `progress`."""
    error_class, message = _classify(error, progress)
    return CallFailure(error_class=error_class, message=_printable(message)[:MESSAGE_CHARS])


def _classify(error: Exception, progress: Progress) -> tuple[ErrorClass, str]:
    match error:
        case ForbiddenAddressError():
            return ErrorClass.FORBIDDEN, str(error)
        case TimeoutError():
            return _timeout(sending=progress.sending)
        case aiohttp.ClientConnectorError():
            return _not_connected(error, tls=progress.tls)
        case aiohttp.ClientHttpProxyError():
            return ErrorClass.REFUSED, f"the forward proxy answered {error.status} to CONNECT"
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
            return ErrorClass.DNS, f"the name could not be resolved: {reason}"
        case aiohttp.ClientConnectorCertificateError() | aiohttp.ClientSSLError():
            return ErrorClass.TLS, f"no trusted TLS connection: {reason}"
        case aiohttp.ClientProxyConnectionError():
            return ErrorClass.REFUSED, f"the forward proxy cannot be reached: {reason}"
    match error.os_error:
        case TimeoutError():
            return _timeout(sending=False)
        case ConnectionResetError() | ConnectionAbortedError() | BrokenPipeError() if tls:
            return ErrorClass.TLS, f"the TLS handshake broke off: {reason}"
        case _:
            return ErrorClass.REFUSED, f"no connection: {reason}"


def _lost(error: Exception, progress: Progress) -> tuple[ErrorClass, str]:
    if progress.unasked and not progress.sending:
        return ErrorClass.PROTOCOL, "the receiver speaks before it is asked; nothing was sent"
    if progress.sending:
        return ErrorClass.RESET, f"the connection broke after the request was sent: {_reason(error)}"
    return ErrorClass.REFUSED, f"the connection broke before anything was sent: {_reason(error)}"


def _reason(error: BaseException) -> str:
    """The operating system's words where there are any; never the client's, which may quote the URL."""
    inner = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
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
