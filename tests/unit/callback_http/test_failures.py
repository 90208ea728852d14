"""Which failed calls are sent again silently: those of which nothing had left, and only once."""

import aiohttp
import pytest
from aiohttp.client_reqrep import ConnectionKey

from services.callback.call import CallFailure, NotBegun
from services.callback.failures import MESSAGE_CHARS, Progress, classify
from services.callback.http_client import CONNECTIONS_TRIED, _unless_unsent
from shared.domain.retry_policy import ErrorClass

KEY = ConnectionKey("h", 80, is_ssl=False, ssl=True, proxy=None, proxy_auth=None, proxy_headers_hash=None)


class Sender:
    """Fails as often as it is told, then sends."""

    def __init__(self, *errors: Exception, progress: Progress | None = None) -> None:
        self.errors = list(errors)
        self.progress = progress or Progress()
        self.sent = 0

    async def __call__(self) -> aiohttp.ClientResponse:
        self.sent += 1
        if self.errors:
            raise self.errors.pop(0)
        self.progress.sending = True
        return None  # type: ignore[return-value]  # the answer is of no account


@pytest.mark.parametrize(
    "error",
    [
        aiohttp.ServerDisconnectedError(),
        aiohttp.ClientOSError(104, "reset"),
        aiohttp.ClientConnectionResetError(),
    ],
)
async def test_a_dead_connection_is_replaced_if_nothing_had_left(error: Exception) -> None:
    unsent = Sender(error)
    await _unless_unsent(unsent, unsent.progress)
    assert unsent.sent == 2
    sent = Sender(error)
    with pytest.raises(type(error)):
        await _unless_unsent(sent, Progress(sending=True))
    assert sent.sent == 1


async def test_it_is_replaced_twice_at_most() -> None:
    sender = Sender(*(aiohttp.ServerDisconnectedError() for _ in range(9)))
    with pytest.raises(aiohttp.ServerDisconnectedError):
        await _unless_unsent(sender, Progress())
    assert sender.sent == CONNECTIONS_TRIED


async def test_an_origin_that_refuses_is_not_asked_twice() -> None:
    sender = Sender(aiohttp.ClientConnectorError(KEY, ConnectionRefusedError(111, "Connection refused")))
    with pytest.raises(aiohttp.ClientConnectorError):
        await _unless_unsent(sender, Progress())
    assert sender.sent == 1


@pytest.mark.parametrize(
    ("error", "sending", "expected"),
    [
        (TimeoutError(), False, ErrorClass.TIMEOUT_CONNECT),
        (TimeoutError(), True, ErrorClass.TIMEOUT_RESPONSE),
        (aiohttp.ServerDisconnectedError(), False, ErrorClass.REFUSED),
        (aiohttp.ServerDisconnectedError(), True, ErrorClass.RESET),
        (OSError(32, "Broken pipe"), True, ErrorClass.RESET),
        (aiohttp.InvalidURL("http://h/?token=hidden"), False, ErrorClass.PROTOCOL),
        (ValueError("hidden"), True, ErrorClass.PROTOCOL),
        (RuntimeError("hidden"), True, ErrorClass.PROTOCOL),
    ],
)
def test_every_exception_has_a_class_and_shows_nothing_hidden(
    error: Exception, expected: ErrorClass, *, sending: bool
) -> None:
    failure = classify(error, Progress(sending=sending))
    assert isinstance(failure, CallFailure)
    assert failure.error_class is expected
    assert "hidden" not in failure.message


def test_what_a_receiver_writes_is_shown_short_and_harmless() -> None:
    error = aiohttp.ClientResponseError(None, (), message="\x1b[31m\r\n" + "x" * 9_000)  # type: ignore[arg-type]
    failure = classify(error, Progress(sending=True))
    message = failure.message
    assert len(message) <= MESSAGE_CHARS
    assert message.isprintable()


@pytest.mark.parametrize(
    ("error", "proxied", "missing"),
    [
        (aiohttp.ClientConnectorError(KEY, OSError(24, "Too many open files")), False, "open files"),
        (OSError(105, "No buffer space available"), False, "buffer"),
        (aiohttp.ClientProxyConnectionError(KEY, OSError(111, "refused")), True, "proxy cannot be reached"),
        (aiohttp.ClientConnectorDNSError(KEY, OSError("none")), True, "proxy's name"),
        (aiohttp.ClientHttpProxyError(None, (), status=407), True, "407"),  # type: ignore[arg-type]
    ],
)
def test_what_is_missing_here_is_no_failure_of_the_receiver(
    error: Exception, missing: str, *, proxied: bool
) -> None:
    outcome = classify(error, Progress(proxied=proxied))
    assert isinstance(outcome, NotBegun)
    assert missing in outcome.message
    assert isinstance(classify(error, Progress(proxied=proxied, sending=True)), CallFailure)


@pytest.mark.parametrize("status", [502, 503, 504])
def test_a_proxy_that_does_not_reach_the_receiver_speaks_of_the_receiver(status: int) -> None:
    error = aiohttp.ClientHttpProxyError(None, (), status=status)  # type: ignore[arg-type]
    failure = classify(error, Progress(proxied=True))
    assert isinstance(failure, CallFailure)
    assert failure.error_class is ErrorClass.REFUSED
