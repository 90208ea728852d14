"""A log in memory: events appended to partitions, handed out as the records that a consumer would see."""

from collections import defaultdict
from dataclasses import dataclass, field

import msgspec

from shared.domain.types import Mode, RequestId
from shared.events.codec import EncodedEvent, Event, Origin, encode
from shared.events.submission import RequestData, encode_submission
from shared.kafka.records import Partition, Record
from shared.kafka.topics import Topic

__all__ = ["LogBuilder", "input_of", "topic_of"]

PREFIX = "t."


@dataclass
class LogBuilder:
    """Appends records; offsets and timestamps count up."""

    partitions: int = 2
    now_ms: int = 1_700_000_000_000
    logs: dict[Partition, list[Record]] = field(default_factory=lambda: defaultdict(list))

    def submit(
        self,
        request_id: str,
        data: RequestData,
        *,
        mode: Mode = Mode.ASYNC,
        partition: int = 0,
        timestamp_ms: int | None = None,
    ) -> Record:
        """A submission as ingest writes it."""
        topic = Topic.REQUESTS if mode is Mode.ASYNC else Topic.REQUESTS_SYNC
        encoded = encode_submission(RequestId(request_id), data, self._origin(), mode)
        return self._append(topic, partition, encoded, timestamp_ms)

    def event(self, topic: Topic, event: Event, *, partition: int = 0) -> Record:
        """One of our own events."""
        return self._append(topic, partition, encode(event, self._origin()), None)

    def raw(
        self, topic: Topic, value: bytes | None, *, partition: int = 0, key: bytes | None = None
    ) -> Record:
        """Bytes without an envelope."""
        place = Partition(PREFIX + topic, partition)
        log = self.logs[place]
        self.now_ms += 1
        log.append(Record(place.topic, partition, len(log), self.now_ms, key, value))
        return log[-1]

    def records(self) -> list[Record]:
        """Everything, partition after partition."""
        return [record for log in self.logs.values() for record in log]

    def _origin(self) -> Origin:
        self.now_ms += 1
        return Origin(event_id=f"e-{self.now_ms}", source="/consuma/test", now_ms=self.now_ms)

    def _append(self, topic: Topic, partition: int, event: EncodedEvent, timestamp_ms: int | None) -> Record:
        place = Partition(PREFIX + topic, partition)
        log = self.logs[place]
        at_ms = self.now_ms if timestamp_ms is None else timestamp_ms
        log.append(Record(place.topic, partition, len(log), at_ms, event.key, event.value, event.headers))
        return log[-1]


def topic_of(record: Record) -> Topic:
    """Which of our topics a record of the builder lies in."""
    return Topic(record.topic.removeprefix(PREFIX))


def input_of(text: str) -> msgspec.Raw:
    """JSON text as a request's input."""
    return msgspec.Raw(text.encode())
