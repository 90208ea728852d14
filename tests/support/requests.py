"""Whole lives of requests, appended to a built log."""

from uuid import UUID, uuid5

from msgspec import Raw

from shared.domain.callbacks import CallbackDelivered
from shared.domain.requests import RequestSubmitted, RequestSucceeded
from shared.domain.types import JsonBytes, JsonText, Mode, RequestFacts, RequestId
from shared.events.submission import RequestData
from shared.kafka.topics import Topic
from tests.support.log_builder import LogBuilder

URL = "http://127.0.0.1:9/hook"
_NAMES = UUID("00000000-0000-4000-8000-000000000000")


def request_id(number: int) -> str:
    return str(uuid5(_NAMES, str(number)))


def facts(number: int, *, mode: Mode = Mode.ASYNC, operation: str = "primes") -> RequestFacts:
    return RequestFacts(
        request_id=RequestId(request_id(number)),
        mode=mode,
        source="rest",
        operation=operation,
        accepted_at_ms=1_700_000_000_000 + number,
    )


def submitted(number: int = 1) -> RequestSubmitted:
    return RequestSubmitted(
        request_id=RequestId(f"00000000-0000-0000-0000-{number:012}"),
        mode=Mode.ASYNC,
        source="rest",
        operation="primes",
        accepted_at_ms=1,
        input=JsonBytes(memoryview(b"{}")),
        digest="",
    )


def submit(
    log: LogBuilder,
    number: int,
    *,
    mode: Mode = Mode.ASYNC,
    operation: str = "primes",
    text: str = '{"n": 7}',
    source: str = "rest",
    client_reference: str | None = None,
) -> None:
    data = RequestData(
        operation=operation,
        input=Raw(text.encode()),
        callback_url=URL,
        source=source,
        client_reference=client_reference,
    )
    log.submit(
        request_id(number),
        data,
        mode=mode,
        partition=number % log.partitions,
        timestamp_ms=1_700_000_000_000 + number,
    )


def succeed(log: LogBuilder, number: int, *, mode: Mode = Mode.ASYNC, result: str = "[1.0]") -> None:
    event = RequestSucceeded(
        **facts(number, mode=mode),
        attempts=1,
        finished_at_ms=log.now_ms,
        queue_ms=0.5,
        compute_ms=1.5,
        callback_url=URL if mode is Mode.ASYNC else None,
        result=JsonText(result),
    )
    log.event(Topic.RESULTS, event, partition=number % log.partitions)


def deliver(log: LogBuilder, number: int) -> None:
    event = CallbackDelivered(
        **facts(number), url=URL, attempt=1, status=200, at_ms=log.now_ms, duration_ms=2.5
    )
    log.event(Topic.CALLBACKS, event, partition=number % log.partitions)


def live(log: LogBuilder, number: int) -> None:
    """A request from its submission to its delivered callback."""
    submit(log, number)
    succeed(log, number)
    deliver(log, number)
