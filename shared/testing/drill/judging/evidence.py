"""What became of a drill's requests, as the log itself, the API and the receivers have it."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import orjson
from aiokafka import AIOKafkaConsumer, TopicPartition

from shared.domain.callbacks import CallbackDeadLettered
from shared.domain.requests import RequestFailed, RequestSucceeded
from shared.events.codec import Event, decode
from shared.kafka.ending import start_whole
from shared.kafka.positions import committed_offsets
from shared.kafka.reader import read_tail
from shared.kafka.records import Partition, Record
from shared.kafka.topics import Topic, topic_name, topic_table
from shared.settings import KafkaSettings
from shared.testing.drill.faults.chaos import Incident
from shared.testing.drill.judging.ledger import Call
from shared.testing.drill.submitting.workload import Told

__all__ = ["Evidence", "Listed", "Outcome", "dead_letters", "lag_left", "outcomes_in_log", "records_in"]

OUTCOME_TOPICS: Final = tuple(each for each in Topic if each in ("results", "results.sync"))
EVERYTHING: Final = 10**9
FETCH_MS: Final = 500
READ_TIMEOUT_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """A terminal record of a request, where it lies in the log, and how long after the acceptance it came."""

    told: Told
    reference: str | None
    position: str
    took_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Listed:
    """A request as the API lists it."""

    request_id: str
    reference: str | None
    mode: str
    status: str
    callback_status: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """All that a drill is judged by. `None` is what was not looked at.

    `outcomes` are the terminal records by request id, in the order of the log; `letters` the ids whose
    callback was given up; `condemned` the records that were set aside as no requests.
    """

    calls: Mapping[str, Sequence[Call]]
    listed: Sequence[Listed]
    outcomes: Mapping[str, Sequence[Outcome]] | None = None
    letters: Collection[str] | None = None
    condemned: Collection[str] = ()
    incidents: Sequence[Incident] = ()


async def outcomes_in_log(settings: KafkaSettings) -> dict[str, list[Outcome]]:
    """Every terminal record by request id, as a reader of committed records sees them.

    Raises:
        KafkaError, TimeoutError: the broker did not answer.
    """
    found: dict[str, list[Outcome]] = defaultdict(list)
    for topic in OUTCOME_TOPICS:
        async for record in records_in(settings, topic):
            event = _event(record)
            if isinstance(event, RequestSucceeded | RequestFailed):
                took_s = (record.timestamp_ms - event.accepted_at_ms) / 1000
                told, reference = _told(event), event.client_reference
                found[event.request_id].append(Outcome(told, reference, record.position, took_s))
    return found


async def dead_letters(settings: KafkaSettings) -> set[str]:
    """Ids of the requests whose callback was given up.

    Raises:
        KafkaError, TimeoutError: the broker did not answer.
    """
    events = [_event(record) async for record in records_in(settings, Topic.CALLBACKS)]
    return {event.request_id for event in events if isinstance(event, CallbackDeadLettered)}


async def lag_left(settings: KafkaSettings) -> dict[str, int]:
    """Records that can be read and that a group has not committed, by group and partition; empty where none.

    Raises:
        KafkaError, TimeoutError: the broker did not answer.
    """
    found: dict[str, int] = {}
    for spec in topic_table(settings):
        numbers = range(settings.partitions if spec.keyed else 1)
        partitions = [Partition(topic_name(settings, spec.topic), number) for number in numbers]
        for group in spec.groups:
            committed = await committed_offsets(settings, f"{settings.topic_prefix}{group}", partitions)
            starts = {each: offset for each, (offset, _) in committed.items()}
            async with asyncio.timeout(READ_TIMEOUT_S):
                behind = await _behind(settings, starts)
            found |= {f"{group} {each}": count for each, count in behind.items()}
    return {name: count for name, count in found.items() if count}


async def records_in(settings: KafkaSettings, topic: Topic) -> AsyncIterator[Record]:
    """Every committed record of a keyed topic, each partition in its order."""
    for number in range(settings.partitions):
        async for record in read_tail(settings, Partition(topic_name(settings, topic), number), EVERYTHING):
            yield record


async def _behind(settings: KafkaSettings, starts: Mapping[Partition, int]) -> dict[Partition, int]:
    """How many readable records lie at or behind each position; offsets alone would count markers."""
    found = dict.fromkeys(starts, 0)
    client = AIOKafkaConsumer(
        bootstrap_servers=settings.kafka, isolation_level="read_committed", enable_auto_commit=False
    )
    try:
        await start_whole(client.start())
        sources = {TopicPartition(*each): start for each, start in starts.items()}
        client.assign(list(sources))
        ends = await client.end_offsets(list(sources))
        for source, start in sources.items():
            client.seek(source, start)
        while any([await client.position(each) < ends[each] for each in sources]):
            batches = await client.getmany(timeout_ms=FETCH_MS)
            for source, records in batches.items():
                found[Partition(source.topic, source.partition)] += len(records)
    finally:
        await client.stop()
    return found


def _event(record: Record) -> Event:
    return decode(record.headers, record.value)[1]


def _told(event: RequestSucceeded | RequestFailed) -> Told:
    if isinstance(event, RequestSucceeded):
        return Told("succeeded", orjson.loads(event.result))
    return Told("failed", code=str(event.error.code))
