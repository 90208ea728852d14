"""What a compute service is fed, and all that it writes."""

import asyncio
import itertools
import json
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from struct import pack_into
from typing import Any, Final

from aiokafka import AIOKafkaProducer
from aiokafka.record.util import calc_crc32c

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
