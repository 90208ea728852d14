"""Producers of other people's making, and what comes of their records."""

import asyncio
import hashlib
import json
from collections import defaultdict
from types import TracebackType
from typing import Any, Final, Self

from confluent_kafka import KafkaError, Message, Producer

from shared.domain.requests import Outcome, RequestDeadLettered, RequestFailed, RequestSucceeded
from shared.events.codec import decode
from shared.kafka.reader import Follower
from shared.kafka.records import Record
from shared.kafka.topics import Topic, topic_name
from shared.settings import KafkaSettings
from tests.integration.kafka.support import until

__all__ = ["HASH", "Outcomes", "Sender", "digest", "envelope", "until"]

HASH: Final[dict[str, Any]] = {"operation": "hash_chain", "input": {"seed": "consuma", "rounds": 3}}
FLUSH_S: Final = 60.0


def digest(seed: str, rounds: int) -> str:
    """The result of `hash_chain`, computed here."""
    value = seed.encode()
    for _ in range(rounds):
        value = hashlib.sha256(value).digest()
    return value.hex()


def envelope(source: str, id_: str, **more: str) -> dict[str, str]:
    """Headers of CloudEvents' binary mode."""
    return {
        "ce_specversion": "1.0",
        "ce_type": "consuma.request.submitted.v1",
        "ce_source": source,
        "ce_id": id_,
        "content-type": "application/json",
        **more,
    }


class Sender:
    """librdkafka as others would use it, with its own partitioner."""

    def __init__(self, settings: KafkaSettings, **config: str | int) -> None:
        self._producer = Producer({"bootstrap.servers": settings.kafka, "linger.ms": 20, **config})
        self._settings = settings
        self.refused: list[int] = []
        self.acknowledged = 0

    def send(
        self,
        value: bytes | dict[str, Any] | None,
        *,
        topic: Topic = Topic.REQUESTS,
        key: str | None = None,
        headers: dict[str, str] | None = None,
        partition: int = -1,
    ) -> None:
        """Queue a record."""
        self._producer.produce(
            topic_name(self._settings, topic),
            value=json.dumps(value) if isinstance(value, dict) else value,
            key=key,
            headers=list((headers or {}).items()),
            partition=partition,
            on_delivery=self._delivered,
        )
        self._producer.poll(0)

    async def flush(self) -> None:
        """Wait for the acknowledgements."""
        assert await asyncio.to_thread(self._producer.flush, FLUSH_S) == 0

    async def in_transaction(self, values: list[dict[str, Any]], *, commit: bool) -> None:
        """Send `values` in one transaction, which is then committed or aborted."""
        await asyncio.to_thread(self._producer.init_transactions, FLUSH_S)
        self._producer.begin_transaction()
        for each in values:
            self.send(each)
        await self.flush()
        end = self._producer.commit_transaction if commit else self._producer.abort_transaction
        await asyncio.to_thread(end, FLUSH_S)

    def _delivered(self, error: KafkaError | None, _: Message) -> None:
        if error is None:
            self.acknowledged += 1
        else:
            self.refused.append(error.code())


class Outcomes:
    """All outcomes and dead letters of an installation, as they come."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self._tasks: list[asyncio.Task[None]] = []
        self.by_reference: dict[str | None, list[Outcome]] = defaultdict(list)
        self.letters: list[RequestDeadLettered] = []

    async def __aenter__(self) -> Self:
        entered = [asyncio.Event(), asyncio.Event()]
        self._tasks = [
            asyncio.create_task(self._follow(topic, event))
            for topic, event in zip((Topic.RESULTS, Topic.REQUESTS_DLQ), entered, strict=True)
        ]
        for event in entered:
            await event.wait()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.wait(self._tasks)

    def results(self, *references: str) -> list[Any]:
        """The result of the one outcome of each reference."""
        found = []
        for reference in references:
            [outcome] = self.by_reference[reference]
            assert isinstance(outcome, RequestSucceeded), outcome
            found.append(json.loads(outcome.result))
        return found

    async def until_known(self, *references: str) -> None:
        """Wait until each of them has an outcome."""
        await until(lambda: all(self.by_reference.get(each) for each in references))

    async def _follow(self, topic: Topic, entered: asyncio.Event) -> None:
        name, partitions = topic_name(self._settings, topic), range(self._settings.partitions)
        async with Follower(self._settings, name, partitions=partitions, tail=0) as follower:
            entered.set()
            async for records in follower.records():
                for record in records:
                    self._take(record)

    def _take(self, record: Record) -> None:
        _, event = decode(record.headers, record.value)
        if isinstance(event, RequestSucceeded | RequestFailed):
            self.by_reference[event.client_reference].append(event)
        elif isinstance(event, RequestDeadLettered):
            self.letters.append(event)
