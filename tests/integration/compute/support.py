"""A compute service beside the test or as a process of its own, what it is fed, and all that it writes."""

import asyncio
import itertools
import json
import os
import signal
import socket
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from struct import pack_into
from typing import Any, Final

import aiohttp
from aiokafka import AIOKafkaProducer
from aiokafka.record.util import calc_crc32c

from services.compute.app import ComputeService
from services.compute.settings import ComputeSettings
from shared.domain.identity import id_of_reference
from shared.domain.requests import (
    Failure,
    FailureCode,
    RequestCancelled,
    RequestDeadLettered,
    RequestFailed,
    RequestStarted,
    RequestSucceeded,
)
from shared.domain.types import Mode, RequestId
from shared.events.codec import Event, Origin, decode, encode
from shared.kafka.reader import Follower
from shared.kafka.records import Record
from shared.kafka.topics import Topic, topic_name
from tests.integration.kafka.support import until

HAZARDS_PATH: Final = Path(__file__).parents[2] / "support" / "hazards"
SOURCE: Final = "test"
CRC_AT: Final = 17
"""Where the checksum of all that follows it stands in a batch of records."""

STOP_TIMEOUT_S: Final = 40.0
"""More than the drain and all that closes after it may take."""

TOPIC_OF: Final = {Mode.SYNC: Topic.REQUESTS_SYNC, Mode.ASYNC: Topic.REQUESTS}
Outcome = RequestSucceeded | RequestFailed

_numbers = itertools.count()


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """A request as bare JSON."""

    value: bytes
    request_id: RequestId


def wanted(operation: str, data: object, **fields: object) -> Wanted:
    reference = f"r{next(_numbers)}"
    body = {"operation": operation, "input": data, "id": reference, "source": SOURCE, **fields}
    return Wanted(value=json.dumps(body).encode(), request_id=id_of_reference(SOURCE, str(body["id"])))


def nap(ms: int = 0, value: int = 0, **fields: object) -> Wanted:
    return wanted("nap", {"ms": ms, "value": value}, **fields)


def hazard(kind: str, **fields: object) -> Wanted:
    return wanted("hazard", {"kind": kind}, **fields)


class Log:
    """Everything that a topic holds, as it grows."""

    def __init__(self, settings: ComputeSettings, topic: str, partitions: int) -> None:
        self.records: list[Record] = []
        self._follower = Follower(settings, topic, partitions=range(partitions), tail=None)

    async def follow(self) -> None:
        async with self._follower as follower:
            async for records in follower.records():
                self.records += records

    def events(self) -> list[Event]:
        return [decode(record.headers, record.value)[1] for record in self.records]


class Bench:
    """The topics of a test: what goes in, and what has come out."""

    def __init__(self, settings: ComputeSettings, producer: AIOKafkaProducer) -> None:
        self.settings = settings
        self._producer = producer
        self.results = self.log(Topic.RESULTS)
        self.letters = self.log(Topic.REQUESTS_DLQ)
        self.replies = self.log(Topic.REPLIES)

    def log(self, topic: Topic) -> Log:
        return Log(self.settings, topic_name(self.settings, topic), self.settings.partitions)

    async def send(
        self,
        *requests: Wanted,
        mode: Mode = Mode.ASYNC,
        partition: int | None = None,
        headers: Iterable[tuple[str, bytes]] = (),
    ) -> None:
        for each in requests:
            await self.send_bytes(each.value, mode=mode, partition=partition, headers=headers)

    async def send_bytes(
        self,
        value: bytes | None,
        *,
        mode: Mode = Mode.ASYNC,
        partition: int | None = None,
        headers: Iterable[tuple[str, bytes]] = (),
    ) -> None:
        topic = topic_name(self.settings, TOPIC_OF[mode])
        key = b"any" if value is None else None  # the client wants one of them
        await self._producer.send_and_wait(
            topic, key=key, value=value, partition=partition, headers=list(headers)
        )

    async def send_renamed(self, request: Wanted, name: bytes, by: bytes, *, partition: int) -> None:
        """With a header of a name that the client library would not write: `by` takes the place of `name`."""
        batch = self._producer.create_batch()
        batch.append(key=None, value=request.value, timestamp=None, headers=[(name.decode(), b"x")])
        written = bytearray(batch._build()).replace(name, by)
        pack_into(">I", written, CRC_AT, calc_crc32c(bytes(written[CRC_AT + 4 :])))
        batch._buffer = written
        topic = topic_name(self.settings, Topic.REQUESTS)
        await (await self._producer.send_batch(batch, topic, partition=partition))

    async def cancel(self, request: Wanted) -> None:
        event = RequestCancelled(
            request_id=request.request_id,
            mode=Mode.ASYNC,
            source=SOURCE,
            operation="nap",
            accepted_at_ms=0,
            requested_at_ms=0,
        )
        encoded = encode(event, Origin(event_id="c", source="/test", now_ms=0))
        await self._producer.send_and_wait(
            topic_name(self.settings, Topic.REQUESTS_CANCELLED),
            key=encoded.key,
            value=encoded.value,
            headers=list(encoded.headers),
        )

    def outcomes(self, request: Wanted) -> list[Outcome]:
        return [
            event
            for event in self.results.events()
            if isinstance(event, RequestSucceeded | RequestFailed) and event.request_id == request.request_id
        ]

    def started(self, request: Wanted) -> list[RequestStarted]:
        return [
            event
            for event in self.results.events()
            if isinstance(event, RequestStarted) and event.request_id == request.request_id
        ]

    async def outcome(self, request: Wanted) -> Outcome:
        """The outcome of a request, once it is there; there must be one only."""
        await until(lambda: bool(self.outcomes(request)))
        found = self.outcomes(request)
        assert len(found) == 1, found
        return found[0]

    async def failure(self, request: Wanted, code: FailureCode) -> Failure:
        outcome = await self.outcome(request)
        assert isinstance(outcome, RequestFailed), outcome
        assert outcome.error.code is code, outcome.error
        return outcome.error

    async def result(self, request: Wanted) -> Any:  # noqa: ANN401 - whatever the operation returned
        outcome = await self.outcome(request)
        assert isinstance(outcome, RequestSucceeded), outcome
        return json.loads(outcome.result)

    async def ended(self, requests: Iterable[Wanted]) -> Counter[RequestId]:
        """Wait until all have an outcome; how many each has."""
        missing = {each.request_id for each in requests}

        def counted() -> Counter[RequestId]:
            return Counter(
                event.request_id
                for event in self.results.events()
                if isinstance(event, RequestSucceeded | RequestFailed)
            )

        await until(lambda: not missing - counted().keys())
        return counted()

    async def dead_letters(self, count: int = 1) -> list[RequestDeadLettered]:
        await until(lambda: len(self.letters.records) >= count)
        found = [event for event in self.letters.events() if isinstance(event, RequestDeadLettered)]
        assert len(found) == count, found
        return found


@asynccontextmanager
async def bench(settings: ComputeSettings, *more: Log) -> AsyncIterator[Bench]:
    producer = AIOKafkaProducer(bootstrap_servers=settings.kafka, acks="all", max_request_size=2_000_000)
    await producer.start()
    async with AsyncExitStack() as stack:
        stack.push_async_callback(producer.stop)
        made = Bench(settings, producer)
        following = [
            asyncio.create_task(log.follow()) for log in (made.results, made.letters, made.replies, *more)
        ]
        try:
            yield made
        finally:
            for task in following:
                task.cancel()
            ended = await asyncio.gather(*following, return_exceptions=True)
            problems = [each for each in ended if isinstance(each, Exception)]
            assert not problems


@dataclass
class Running:
    """A service in this process."""

    service: ComputeService
    stop: asyncio.Event
    task: asyncio.Task[None]


@asynccontextmanager
async def running(settings: ComputeSettings) -> AsyncIterator[Running]:
    service, stop = ComputeService(settings), asyncio.Event()
    task = asyncio.create_task(service.run(stop))
    try:
        await until(lambda: task.done() or all(service.readiness().values()))
        yield Running(service, stop, task)
    finally:
        stop.set()
        done, _ = await asyncio.wait({task}, timeout=STOP_TIMEOUT_S)
        assert done, f"did not stop: {[each.get_stack() for each in asyncio.all_tasks()]}"
        await task


@asynccontextmanager
async def computing(settings: ComputeSettings, **changes: object) -> AsyncIterator[Bench]:
    """A service with the topics around it."""
    settings = settings.model_copy(update=changes)
    async with bench(settings) as made, running(settings):
        yield made


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class ComputeProcess:
    """`python -m services.compute`; what it logs goes to `log`."""

    settings: ComputeSettings
    log: Path
    port: int = field(default_factory=free_port)
    process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "services.compute", stdout=log, stderr=log, env=self._environment()
            )

    def _environment(self) -> dict[str, str]:
        own = {
            f"CONSUMA_{name.upper()}": str(value)
            for name, value in self.settings.model_dump().items()
            if name in self.settings.model_fields_set
        }
        return {**os.environ, **own, "CONSUMA_HEALTH_PORT": str(self.port)}

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    async def until_ready(self) -> None:
        await until(self._ready)

    async def _ready(self) -> bool:
        assert self.process is not None
        assert self.process.returncode is None, self.log.read_text()
        try:
            async with (
                aiohttp.ClientSession() as session,
                session.get(f"http://127.0.0.1:{self.port}/health/ready") as response,
            ):
                return response.status == 200
        except aiohttp.ClientError:
            return False

    async def end(self, number: signal.Signals) -> int:
        """Signal it and wait for its end; its exit code."""
        assert self.process is not None
        if self.process.returncode is None:
            self.process.send_signal(number)
        async with asyncio.timeout(30):
            return await self.process.wait()

    async def supervise(self, done: Callable[[], bool], most: int) -> int:
        """Start it again whenever it dies, until `done`; how often it died, at most `most` times."""
        deaths = 0

        async def looked_after() -> bool:
            nonlocal deaths
            assert self.process is not None
            if self.process.returncode is not None:
                deaths += 1
                assert deaths <= most, self.log.read_text()
                await self.start()
            return done()

        await until(looked_after)
        return deaths


@asynccontextmanager
async def compute_process(settings: ComputeSettings, log: Path) -> AsyncIterator[ComputeProcess]:
    """A process that is started and ready; killed at the end if it still runs."""
    made = ComputeProcess(settings, log)
    await made.start()
    try:
        await made.until_ready()
        yield made
    finally:
        await made.end(signal.SIGKILL)
