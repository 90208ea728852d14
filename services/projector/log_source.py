"""The log as the projector reads it: every partition, from positions that the database holds.

Partitions are assigned, not shared out by a group. Who projects is decided by the lock in the database, so a
group would add a coordinator that can fail and a rebalance that can stall, and could still not fence a
member that is late. One process has all partitions in one transaction; the database is what limits it.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Final

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import IllegalStateError, KafkaError

from services.projector import metrics
from services.projector.portions import Fetched
from services.projector.reading import LogReader
from shared.db.batches import Move
from shared.db.keys import PROJECTED_TOPICS
from shared.kafka.ending import end_bounded, prepare_library
from shared.kafka.library_tasks import DeadTaskError
from shared.kafka.metrics import CLIENTS_REPLACED
from shared.kafka.records import Partition, Record
from shared.kafka.topics import Topic, topic_name, topic_table
from shared.settings import ServiceSettings

__all__ = ["LogNotReadyError", "LogSource", "open_log_source"]

log = structlog.get_logger()

FETCH_WAIT_MS: Final = 50
OPEN_TIMEOUT_S: Final = 20.0
CLOSE_TIMEOUT_S: Final = 5.0
PLAIN_TOPICS: Final = frozenset({Topic.RESULTS, Topic.REQUESTS_DLQ, Topic.CALLBACKS_DLQ})
"""Written without transactions and by ourselves alone: their offsets have no gaps."""


class LogNotReadyError(Exception):
    """The log does not answer, or its topics are not there yet."""


class LogSource:
    """Reads on from given positions; partitions whose position cannot be trusted stand still."""

    def __init__(
        self, client: AIOKafkaConsumer, topics: Mapping[str, Topic], partitions: Sequence[Partition]
    ) -> None:
        self._client = client
        self._reader = LogReader(client)
        self._topics = topics
        self.partitions = tuple(partitions)
        self._positions: dict[Partition, int] = {}
        self.alarmed: set[Partition] = set()

    def topic(self, record: Record) -> Topic:
        """Which of our topics a record lies in."""
        return self._topics[record.topic]

    async def log_starts(self, partitions: Sequence[Partition]) -> dict[Partition, int]:
        """Where the log of each of `partitions` begins.

        Raises:
            LogNotReadyError: the broker does not answer.
        """
        with _log_answers():
            async with asyncio.timeout(OPEN_TIMEOUT_S):
                begins = await self._client.beginning_offsets([TopicPartition(*each) for each in partitions])
        return {Partition(*source): offset for source, offset in begins.items()}

    async def start_from(self, positions: Mapping[Partition, int]) -> None:
        """Begin at `positions`; one that the log does not have any more, or not yet, raises the alarm.

        Raises:
            LogNotReadyError: the broker does not answer.
        """
        begins = await self.log_starts(self.partitions)
        ends = await self._ends()
        # Nothing is awaited between assignment and seeks: the client would look for committed offsets.
        self._client.assign([TopicPartition(*each) for each in self.partitions])
        for each in self.partitions:
            stored = positions[each]
            metrics.ALARM.labels(*each).set(0)
            self._client.seek(TopicPartition(*each), stored)
            self._positions[each] = stored
            if not begins[each] <= stored <= ends[each]:
                self._alarm(each, f"stored {stored}, the log holds {begins[each]} to {ends[each]}")

    async def fetch(self, most_records: int) -> Fetched:
        """What has come, after a short wait when nothing has.

        Raises:
            LogNotReadyError: the client is of no more use.
        """
        await self._check_positions()
        try:
            found = await self._reader.read(self._positions, most_records)
        except DeadTaskError as error:
            CLIENTS_REPLACED.labels("projector", error.reason).inc()
            raise LogNotReadyError(str(error)) from error
        except KafkaError as error:
            raise LogNotReadyError(f"the log cannot be read: {error!r}") from error
        for each, reason in found.lost.items():
            self._alarm(each, reason)
        moves = await self._moves()
        self._count_gaps(found.records)
        self._positions |= {each: move.end for each, move in moves.items()}
        return Fetched(records=found.records, moves=moves)

    def show_lag(self) -> None:
        """Tell the metrics how far the log's end is."""
        for each, position in self._positions.items():
            end = self._client.last_stable_offset(TopicPartition(*each))
            if end is not None:
                metrics.LAG.labels(*each).set(max(end - position, 0))

    async def _check_positions(self) -> None:
        """The next batch has to start where the last one ended."""
        for each, position in (await self._client_positions()).items():
            expected = self._positions[each]
            if position != expected:
                self._alarm(each, f"the batch would start at {position}, expected {expected}")

    async def _moves(self) -> dict[Partition, Move]:
        """Positions move with records, and past transaction markers and aborted records without any."""
        now = await self._client_positions()
        return {each: Move(start, now[each]) for each, start in self._positions.items() if now[each] != start}

    async def _client_positions(self) -> dict[Partition, int]:
        """Where the client is. It knows; the deadline is for the day when it does not."""
        with _log_answers():
            async with asyncio.timeout(OPEN_TIMEOUT_S):
                return {each: await self._client.position(TopicPartition(*each)) for each in self._positions}

    async def _ends(self) -> dict[Partition, int]:
        with _log_answers():
            async with asyncio.timeout(OPEN_TIMEOUT_S):
                ends = await self._client.end_offsets([TopicPartition(*each) for each in self.partitions])
        return {Partition(*source): offset for source, offset in ends.items()}

    def _count_gaps(self, records: Sequence[Record]) -> None:
        expected = dict(self._positions)
        for record in records:
            place = Partition(record.topic, record.partition)
            missing = record.offset - expected.get(place, record.offset)
            if missing and self._topics[record.topic] in PLAIN_TOPICS:
                metrics.GAPS.labels(record.topic).inc(missing)
                log.error("projector.gap", position=record.position, missing=missing)
            expected[place] = record.offset + 1

    def _alarm(self, partition: Partition, reason: str) -> None:
        """Stop one partition, loudly: reading on from anywhere else would lose events in silence."""
        stands_at = self._positions.pop(partition, None)
        self.alarmed.add(partition)
        metrics.ALARM.labels(*partition).set(1)
        with suppress(IllegalStateError):
            self._client.pause(TopicPartition(*partition))
        log.error(
            "projector.partition_stopped",
            partition=str(partition),
            offset=stands_at,
            reason=reason,
            hint="set its next_offset in projection_offsets to where it may go on, behind a damaged batch or "
            "where the log begins, and restart the projector; if the topic was made anew, empty the tables "
            "and project again from the start",
        )


@asynccontextmanager
async def open_log_source(settings: ServiceSettings) -> AsyncIterator[LogSource]:
    """Connect to the log, once its topics are there.

    Raises:
        LogNotReadyError: the broker does not answer, or topics are missing.
    """
    keyed = {spec.topic: spec.keyed for spec in topic_table(settings)}
    topics = {topic_name(settings, topic): topic for topic in PROJECTED_TOPICS}
    partitions = [
        Partition(name, number)
        for name, topic in topics.items()
        for number in range(settings.partitions if keyed[topic] else 1)
    ]
    prepare_library()
    client = AIOKafkaConsumer(
        bootstrap_servers=settings.kafka,
        client_id=settings.instance,
        enable_auto_commit=False,
        auto_offset_reset="none",
        isolation_level="read_committed",
        fetch_max_wait_ms=FETCH_WAIT_MS,
    )
    try:
        with _log_answers():
            async with asyncio.timeout(OPEN_TIMEOUT_S):
                await client.start()
                missing = topics.keys() - await client.topics()
        if missing:
            raise LogNotReadyError(f"topics are missing: {sorted(missing)}; run `consuma topics apply`")
        yield LogSource(client, topics, partitions)
    finally:
        problem = await end_bounded(client.stop(), CLOSE_TIMEOUT_S)
        if problem is not None:
            log.warning("projector.log_close_failed", error=repr(problem))


@contextmanager
def _log_answers() -> Iterator[None]:
    try:
        yield
    except (KafkaError, OSError) as error:  # a passed deadline is an OSError
        raise LogNotReadyError(f"the log does not answer: {error!r}") from error
