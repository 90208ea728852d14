"""A stand-in for compute: takes requests from the log and answers them, when and how a test says.

It has no slots and commits nothing; results and replies are what the service itself would write.
"""

import asyncio
import time
from types import TracebackType
from typing import Self
from uuid import uuid4

from pydantic_core import to_json

from services.ingest.settings import IngestSettings
from shared.domain.requests import Failure, FailureCode, Outcome, RequestFailed, RequestSucceeded
from shared.domain.types import JsonText, Mode, facts_of
from shared.events.codec import Origin, encode
from shared.events.submission import ReplyTo, Submission, decode_submission
from shared.kafka.producer import SupervisedProducer
from shared.kafka.reader import Follower
from shared.kafka.records import OutgoingRecord
from shared.kafka.topics import Topic, topic_name
from shared.operations.registry import load_registry

__all__ = ["ComputeTwin"]

SOURCE = "/consuma/compute-twin"
TOPICS = {Topic.REQUESTS_SYNC: Mode.SYNC, Topic.REQUESTS: Mode.ASYNC}


class ComputeTwin:
    """Answers every request that comes while it is entered, unless `held`."""

    def __init__(self, settings: IngestSettings) -> None:
        self._settings = settings
        self._keys = settings.keys()
        self._producer = SupervisedProducer(settings)
        self._tasks: list[asyncio.Task[None]] = []
        self.submissions: list[Submission] = []
        self.held = False
        self.failing = False

    async def __aenter__(self) -> Self:
        await self._producer.start()
        entered = [asyncio.Event() for _ in TOPICS]
        self._tasks = [
            asyncio.create_task(self._follow(*each, event))
            for each, event in zip(TOPICS.items(), entered, strict=True)
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
        await self._producer.stop()

    async def answer(self, submission: Submission) -> None:
        """Compute a request, append its result, then the reply, if one is waited for."""
        outcome = self._outcome(submission)
        event = encode(outcome, origin())
        await self._producer.send(
            OutgoingRecord(topic=Topic.RESULTS, key=event.key, value=event.value, headers=event.headers)
        )
        if submission.reply_to is not None:
            await self.reply(submission.reply_to, outcome)

    async def reply(self, reply_to: ReplyTo, outcome: Outcome) -> None:
        """Append `outcome` where somebody may wait for it."""
        assert isinstance(outcome, RequestSucceeded | RequestFailed)
        event = encode(outcome, origin())
        await self._producer.send(
            OutgoingRecord(
                topic=reply_to.topic,
                partition=reply_to.partition,
                key=event.key,
                value=event.value,
                headers=(*event.headers, ("correlation-id", reply_to.correlation_id)),
            )
        )

    async def raw_reply(self, reply_to: ReplyTo, value: bytes) -> None:
        """Append bytes where somebody waits for an outcome."""
        headers = (("correlation-id", reply_to.correlation_id),)
        await self._producer.send(
            OutgoingRecord(
                topic=reply_to.topic, partition=reply_to.partition, key=None, value=value, headers=headers
            )
        )

    async def _follow(self, topic: Topic, mode: Mode, entered: asyncio.Event) -> None:
        name = topic_name(self._settings, topic)
        partitions = range(self._settings.partitions)
        async with Follower(self._settings, name, partitions=partitions, tail=0) as follower:
            entered.set()
            async for records in follower.records():
                for record in records:
                    submission = decode_submission(record, mode, self._keys)
                    self.submissions.append(submission)
                    if not self.held:
                        await self.answer(submission)

    def _outcome(self, submission: Submission) -> RequestSucceeded | RequestFailed:
        request = submission.request
        now_ms = time.time_ns() // 1_000_000
        if self.failing:
            error = Failure(code=FailureCode.CRASHED, message="killed by SIGSEGV", signal="SIGSEGV")
            return RequestFailed(**facts_of(request), attempts=2, finished_at_ms=now_ms, error=error)
        operation = load_registry().get(request.operation)
        result = operation.run(load_registry().parse(request.operation, bytes(request.input)))
        return RequestSucceeded(
            **facts_of(request),
            attempts=1,
            finished_at_ms=now_ms,
            callback_url=request.callback_url,
            client_reference=request.client_reference,
            result=JsonText(to_json(result).decode()),
        )


def origin() -> Origin:
    return Origin(event_id=str(uuid4()), source=SOURCE, now_ms=time.time_ns() // 1_000_000)
