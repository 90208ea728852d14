"""The service beside the test or as a process, outcomes to feed it, and what it has written."""

import asyncio
import os
import sys
import time
from base64 import b64encode
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager

from aiokafka import AIOKafkaProducer

from services.callback.app import CallbackService
from services.callback.delay_queue import wall_clock_ms
from services.callback.ports import Dispatch, Dispatched, WaitsFor, Where
from services.callback.settings import CallbackSettings
from shared.domain.callbacks import CallbackDeadLettered, Delivery, FailedAttempt, SuccessfulAttempt
from shared.domain.requests import RequestSucceeded
from shared.domain.retry_policy import ErrorClass
from shared.domain.types import JsonText, RequestId
from shared.events.codec import Event, Origin, decode, encode
from shared.kafka.producer import SupervisedProducer
from shared.kafka.reader import read_tail
from shared.kafka.records import Partition
from shared.kafka.topics import Topic, topic_name
from shared.settings import KafkaSettings
from tests.support.requests import facts, request_id

SECRET = "whsec_" + b64encode(b"callback-tests-of-consuma-secret").decode()
URL = "http://127.0.0.1:9/hook"
PATIENCE_S = 60.0

Answer = Callable[[Delivery, int], Dispatched | Awaitable[Dispatched]]
"""What a dispatcher returns for a delivery, which is the request's n-th (from 1)."""


def report(text: str) -> None:
    """A figure for whoever runs the tests with `-s`."""
    sys.stdout.write(f"\n{text}")


async def until(condition: Callable[[], bool | Awaitable[bool]], timeout_s: float = PATIENCE_S) -> None:
    """Wait until `condition` holds; it is looked at every 20 ms."""
    async with asyncio.timeout(timeout_s):
        while True:
            found = condition()
            if await found if isinstance(found, Awaitable) else found:
                return
            await asyncio.sleep(0.02)


def taken() -> SuccessfulAttempt:
    return SuccessfulAttempt(status=200, at_ms=wall_clock_ms(), duration_ms=1.0)


def failed(error_class: ErrorClass = ErrorClass.HTTP_5XX, **fields: object) -> FailedAttempt:
    base = {"at_ms": wall_clock_ms(), "duration_ms": 1.0, "message": "answered 500", "status": 500}
    return FailedAttempt(error_class=error_class, **{**base, **fields})  # type: ignore[arg-type]


class ScriptedDispatcher:
    """Calls nobody: answers as it is told, and remembers when it was asked for what."""

    def __init__(self, answer: Answer = lambda _, __: taken()) -> None:
        self.answer = answer
        self.calls: dict[str, list[tuple[int, Delivery]]] = defaultdict(list)
        self.under_way = 0
        self._parked: dict[object, Callable[[], None]] = {}
        self._is_well = False

    @property
    def ready(self) -> bool:
        return True

    async def start(self) -> None:
        pass

    async def stop(self) -> None:
        pass

    async def run(self) -> None:
        pass

    def release(self) -> None:
        pass

    async def dispatch(self, delivery: Delivery, where: Where) -> Dispatch:
        return Dispatch(await self._answer(delivery))

    @contextmanager
    def parked(self, waits_for: WaitsFor, wake: Callable[[], None]) -> Iterator[None]:
        ticket = object()
        self._parked[ticket] = wake
        if self._is_well:
            asyncio.get_running_loop().call_soon(self._wake, ticket)
        try:
            yield
        finally:
            self._parked.pop(ticket, None)

    def recover(self) -> None:
        """Take whatever waits in memory, now and later."""
        self._is_well = True
        for ticket in list(self._parked):
            self._wake(ticket)

    def _wake(self, ticket: object) -> None:
        if (wake := self._parked.pop(ticket, None)) is not None:
            wake()

    async def _answer(self, delivery: Delivery) -> Dispatched:
        calls = self.calls[delivery.request_id]
        calls.append((wall_clock_ms(), delivery))
        self.under_way += 1
        try:
            found = self.answer(delivery, len(calls))
            return await found if isinstance(found, Awaitable) else found
        finally:
            self.under_way -= 1

    def count(self, number: int) -> int:
        """How often the callback of a request was attempted."""
        return len(self.calls[request_id(number)])


@asynccontextmanager
async def running(
    settings: CallbackSettings, dispatcher: ScriptedDispatcher
) -> AsyncIterator[CallbackService]:
    """The service in this process, ready; drained at the end."""
    stop = asyncio.Event()
    service = CallbackService(settings, lambda *_: dispatcher)
    task = asyncio.create_task(service.run(stop))
    try:
        await until(lambda: all(service.readiness().values()) or task.done())
        yield service
    finally:
        stop.set()
        async with asyncio.timeout(PATIENCE_S):
            await task


@asynccontextmanager
async def process(settings: CallbackSettings) -> AsyncIterator[asyncio.subprocess.Process]:
    """The service as its own process; killed at the end if it still runs. Its log is the test's."""
    environment = {
        **os.environ,
        "CONSUMA_KAFKA": settings.kafka,
        "CONSUMA_TOPIC_PREFIX": settings.topic_prefix,
        "CONSUMA_INSTANCE": settings.instance,
        "CONSUMA_PARTITIONS": str(settings.partitions),
        "CONSUMA_SESSION_TIMEOUT_MS": str(settings.session_timeout_ms),
        "CONSUMA_RETRY_SCHEDULE": settings.retry_schedule,
        "CONSUMA_WEBHOOK_SECRETS": settings.webhook_secrets.get_secret_value(),
        "CONSUMA_CALLBACK_ALLOW": settings.callback_allow,
    }
    child = await asyncio.create_subprocess_exec(sys.executable, "-m", "services.callback", env=environment)
    try:
        yield child
    finally:
        if child.returncode is None:
            child.kill()
        await child.wait()


def outcome(number: int, url: str | None = URL, *, result: str = "[1.0]") -> RequestSucceeded:
    return RequestSucceeded(
        **facts(number),
        attempts=1,
        finished_at_ms=wall_clock_ms(),
        callback_url=url,
        result=JsonText(result),
    )


async def append(
    settings: KafkaSettings, topic: Topic, events: Iterable[Event], *, timestamp_ms: int | None = None
) -> None:
    """Append `events` as their services would, keyed by request."""
    async with producing(settings) as producer:
        name = topic_name(settings, topic)
        futures = []
        for number, event in enumerate(events):
            origin = Origin(event_id=f"e-{number}", source="/consuma/test", now_ms=wall_clock_ms())
            encoded = encode(event, origin)
            futures.append(
                await producer.send(
                    name,
                    value=encoded.value,
                    key=encoded.key,
                    headers=list(encoded.headers),
                    timestamp_ms=timestamp_ms,
                )
            )
        await asyncio.gather(*futures)


@asynccontextmanager
async def producing(settings: KafkaSettings) -> AsyncIterator[AIOKafkaProducer]:
    producer = AIOKafkaProducer(bootstrap_servers=settings.kafka, acks="all", max_request_size=6_000_000)
    await producer.start()
    try:
        yield producer
    finally:
        await producer.stop()


@asynccontextmanager
async def supervised(settings: KafkaSettings) -> AsyncIterator[SupervisedProducer]:
    producer = SupervisedProducer(settings)
    await producer.start()
    try:
        yield producer
    finally:
        await producer.stop()


async def events_of(settings: KafkaSettings, topic: Topic) -> dict[RequestId, list[Event]]:
    """Everything in a topic, by request, in the order of the log."""
    found: dict[RequestId, list[Event]] = defaultdict(list)
    for number in range(settings.partitions):
        async for record in read_tail(settings, Partition(topic_name(settings, topic), number), 10**9):
            _, event = decode(record.headers, record.value)
            found[RequestId((record.key or b"").decode())].append(event)
    return found


async def facts_of_request(settings: KafkaSettings, number: int) -> list[Event]:
    """The facts about one request's callback."""
    return (await events_of(settings, Topic.CALLBACKS))[RequestId(request_id(number))]


async def seconds(work: Awaitable[object]) -> float:
    """How long `work` took."""
    began = time.monotonic()
    await work
    return time.monotonic() - began


async def has_letters(settings: CallbackSettings, count: int) -> bool:
    found = await events_of(settings, Topic.CALLBACKS)
    letters = [each for many in found.values() for each in many if isinstance(each, CallbackDeadLettered)]
    return len(letters) == count
