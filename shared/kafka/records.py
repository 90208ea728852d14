"""Records as the rest of consuma sees them, free of any client library."""

from dataclasses import dataclass
from typing import Final, NamedTuple

from shared.kafka.topics import Topic

__all__ = ["MOST_HEADERS", "Headers", "OutgoingRecord", "Partition", "Position", "Record"]

Headers = tuple[tuple[str, bytes], ...]
MOST_HEADERS: Final = 1_000
"""A record with more headers is read with the first `MOST_HEADERS` + 1 of them."""


class Partition(NamedTuple):
    """One partition of a topic, by the topic's full name."""

    topic: str
    number: int

    def __str__(self) -> str:
        return f"{self.topic}-{self.number}"


@dataclass(frozen=True, slots=True)
class Record:
    """One fetched record, its bytes untouched. `timestamp_ms` is the broker's or the producer's.

    More than `MOST_HEADERS` headers mean that the record has too many, and that the others are left out.
    """

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: Headers = ()
    log_append_time: bool = False
    """Whether the timestamp is the broker's."""

    @property
    def position(self) -> str:
        """`topic-partition-offset`: where people find this record."""
        return f"{self.topic}-{self.partition}-{self.offset}"

    def header(self, name: str) -> bytes | None:
        """The last header called `name`."""
        return next((value for key, value in reversed(self.headers) if key == name), None)

    @property
    def size(self) -> int:
        """Bytes of key, value and headers: a submitter may put a megabyte into any of them."""
        headers = sum([len(name) + len(value) for name, value in self.headers])
        return len(self.key or b"") + len(self.value or b"") + headers


@dataclass(frozen=True, slots=True, kw_only=True)
class OutgoingRecord:
    """A record to be appended: `topic` is one of ours, or the full name of a producer's own."""

    topic: Topic | str
    key: bytes | None
    value: bytes | None
    headers: Headers = ()
    partition: int | None = None


@dataclass(frozen=True, slots=True)
class Position:
    """Where an acknowledged record lies."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
