"""Random histories of a few requests, as the log would hold them."""

from collections.abc import Callable

from hypothesis import strategies as st
from msgspec import Raw

from shared.domain.callbacks import (
    CallbackAttempted,
    CallbackDeadLettered,
    CallbackDelivered,
    CallbackDiscarded,
    CallbackReplayed,
    Delivery,
    DeliveryDeadLettered,
)
from shared.domain.requests import (
    Failure,
    FailureCode,
    RequestCancelled,
    RequestFailed,
    RequestStarted,
    RequestSucceeded,
)
from shared.domain.retry_policy import ErrorClass, GiveUpReason
from shared.domain.types import JsonText, Mode, RequestFacts, RequestId
from shared.events.submission import RequestData
from shared.kafka.topics import Topic
from tests.support.log_builder import LogBuilder

IDS = tuple(f"00000000-0000-5000-8000-00000000000{digit}" for digit in "0123")
URL = "http://127.0.0.1:9/hook"
Step = Callable[[LogBuilder, int], None]
"""Appends what happened next to the request with this number."""


def facts(number: int, accepted_at_ms: int) -> RequestFacts:
    return RequestFacts(
        request_id=RequestId(IDS[number]),
        mode=Mode.ASYNC,
        source="rest",
        operation="primes",
        accepted_at_ms=accepted_at_ms,
    )


@st.composite
def _submitted(draw: st.DrawFn) -> Step:
    mode = draw(st.sampled_from(Mode))
    partition = draw(st.integers(0, 1))
    timestamp_ms = draw(st.integers(1_700_000_000_000, 1_700_000_000_003))
    operation = draw(st.sampled_from(["primes", "other"]))
    url = draw(st.sampled_from([None, URL]))
    reference = draw(st.sampled_from([None, "order-1"]))
    data = RequestData(
        operation=operation, input=Raw(b'{"n": 7}'), callback_url=url, client_reference=reference
    )

    def step(log: LogBuilder, number: int) -> None:
        log.submit(IDS[number], data, mode=mode, partition=partition, timestamp_ms=timestamp_ms)

    return step


def _own(topic: Topic, make: Callable[[RequestFacts, int], object]) -> Step:
    def step(log: LogBuilder, number: int) -> None:
        at_ms = log.now_ms
        log.event(topic, make(facts(number, 1_700_000_000_000), at_ms), partition=number % 2)  # type: ignore[arg-type]

    return step


@st.composite
def _computed(draw: st.DrawFn) -> Step:
    attempt = draw(st.integers(1, 3))
    url = draw(st.sampled_from([None, URL]))
    makers = [
        lambda f, at: RequestStarted(**f, attempt=attempt, started_at_ms=at, worker=f"w-{attempt}"),
        lambda f, at: RequestSucceeded(
            **f,
            attempts=attempt,
            finished_at_ms=at,
            compute_ms=1.5,
            callback_url=url,
            result=JsonText("[1.0]"),
        ),
        lambda f, at: RequestFailed(
            **f,
            attempts=attempt,
            finished_at_ms=at,
            callback_url=url,
            error=Failure(code=FailureCode.TIMEOUT, message="too long"),
        ),
    ]
    return _own(Topic.RESULTS, draw(st.sampled_from(makers)))


@st.composite
def _called_back(draw: st.DrawFn) -> Step:
    attempt = draw(st.integers(1, 4))
    letter = draw(st.sampled_from(["t.callbacks.dlq-0-0", "t.callbacks.dlq-1-0", "nonsense"]))
    makers = [
        lambda f, at: CallbackAttempted(
            **f,
            url=URL,
            attempt=attempt,
            error_class=ErrorClass.HTTP_5XX,
            at_ms=at,
            duration_ms=2.5,
            status=503,
            retry_at_ms=at + 1000,
        ),
        lambda f, at: CallbackDelivered(
            **f, url=URL, attempt=attempt, status=200, at_ms=at, duration_ms=1.25
        ),
        lambda f, at: CallbackDeadLettered(
            **f, url=URL, reason=GiveUpReason.EXHAUSTED, attempts=attempt, at_ms=at
        ),
        lambda f, at: CallbackReplayed(
            **f, letter=letter, replayed_by="ann", reason="fixed", at_ms=at, replay_count=attempt
        ),
        lambda f, at: CallbackDiscarded(**f, letter=letter, discarded_by="bob", reason="old", at_ms=at),
    ]
    return _own(Topic.CALLBACKS, draw(st.sampled_from(makers)))


def _letter(f: RequestFacts, at_ms: int) -> DeliveryDeadLettered:
    delivery = Delivery(**f, url=URL, webhook_id=f["request_id"], body=JsonText("{}"), origin="t.results-0-0")
    return DeliveryDeadLettered(
        delivery=delivery,
        reason=GiveUpReason.EXHAUSTED,
        message="refused",
        last_failed_at_ms=at_ms,
        dead_lettered_at_ms=at_ms,
    )


def _unreadable(log: LogBuilder, number: int) -> None:
    log.raw(Topic.RESULTS, b"{", partition=number % 2, key=IDS[number].encode())


def _no_request(log: LogBuilder, number: int) -> None:
    log.raw(Topic.REQUESTS, b"{", partition=number % 2)


STEPS: st.SearchStrategy[Step] = st.one_of(
    _submitted(),
    _computed(),
    _computed(),
    _called_back(),
    _called_back(),
    st.just(_own(Topic.REQUESTS_CANCELLED, lambda f, at: RequestCancelled(**f, requested_at_ms=at))),
    st.just(_own(Topic.CALLBACKS_DLQ, _letter)),
    st.just(_unreadable),
    st.just(_no_request),
)


@st.composite
def histories(draw: st.DrawFn) -> LogBuilder:
    """A log of up to thirty records about a few requests."""
    log = LogBuilder()
    for number, step in draw(
        st.lists(st.tuples(st.integers(0, len(IDS) - 1), STEPS), min_size=1, max_size=30)
    ):
        step(log, number)
    return log
