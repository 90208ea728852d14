"""Topics and groups as the broker shows them: sizes, lags, ages, and the records that are blamed."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

from shared.kafka.commit_metadata import decode_metadata
from shared.kafka.ending import prepare_library, start_whole
from shared.kafka.fetch_errors import is_damage
from shared.kafka.positions import admin_client, fetch_committed
from shared.kafka.topics import TopicSpec, topic_name, topic_table
from shared.settings import KafkaSettings

__all__ = ["GroupStatus", "PartitionStatus", "TopicStatus", "show"]

log = structlog.get_logger()

TIMEOUT_S: Final = 30.0
OLDEST_TIMEOUT_S: Final = 5.0
"""A transaction that is open may hide a partition's oldest record for longer: its age is then not known."""

PEEK_MS: Final = 200
"""Of one look at all partitions of a group; each is read alone, lest damaged bytes hide the others."""

PEEK_BYTES: Final = 16 * 1024
"""Fetched of a partition to see its oldest record; a larger record comes whole."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupStatus:
    """How far a group has come in a partition.

    Attributes:
        committed: its offset; None where it lacks one.
        lag: offsets between that and the end, markers counted.
        oldest_age_s: age of the oldest unfinished record by the broker's timestamp; None when there is none,
            or when it cannot be read at the moment.
        blamed: runs that ended with their process, by offset.
    """

    committed: int | None
    lag: int
    oldest_age_s: float | None
    blamed: Mapping[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class PartitionStatus:
    """A partition, from its first offset to its end, and its groups by name."""

    number: int
    begin: int
    end: int
    groups: Mapping[str, GroupStatus]


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicStatus:
    """A topic that exists."""

    name: str
    partitions: tuple[PartitionStatus, ...]

    @property
    def records(self) -> int:
        """Offsets in the log, markers counted."""
        return sum(each.end - each.begin for each in self.partitions)

    @property
    def groups(self) -> tuple[str, ...]:
        """Names of its groups, without the prefix."""
        return tuple(self.partitions[0].groups) if self.partitions else ()

    def lag(self, group: str) -> int | None:
        """Offsets that `group` has not committed yet; None where it lacks a position."""
        found = [each.groups[group] for each in self.partitions]
        return None if any(each.committed is None for each in found) else sum(each.lag for each in found)

    def oldest_age_s(self, group: str) -> float | None:
        """Age of the oldest record that `group` has not finished; None when there is none."""
        ages = [each.groups[group].oldest_age_s for each in self.partitions]
        return max((age for age in ages if age is not None), default=None)


async def show(settings: KafkaSettings) -> list[TopicStatus]:
    """Every topic that exists, with its groups.

    Raises:
        KafkaError, TimeoutError: the broker did not answer.
    """
    async with asyncio.timeout(TIMEOUT_S), admin_client(settings) as admin, _reader(settings) as reader:
        existing = set(await admin.list_topics())
        wanted = [spec for spec in topic_table(settings) if topic_name(settings, spec.topic) in existing]
        described = await admin.describe_topics([topic_name(settings, spec.topic) for spec in wanted])
        counts = {entry["topic"]: len(entry["partitions"]) for entry in described}
        return [
            await _topic(admin, reader, settings, spec, counts[topic_name(settings, spec.topic)])
            for spec in wanted
        ]


@asynccontextmanager
async def _reader(settings: KafkaSettings) -> AsyncIterator[AIOKafkaConsumer]:
    prepare_library()
    reader = AIOKafkaConsumer(
        bootstrap_servers=settings.kafka,
        isolation_level="read_committed",
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        max_partition_fetch_bytes=PEEK_BYTES,
    )
    try:
        await start_whole(reader.start())
        yield reader
    finally:
        await reader.stop()


async def _topic(
    admin: AIOKafkaAdminClient, reader: AIOKafkaConsumer, settings: KafkaSettings, spec: TopicSpec, count: int
) -> TopicStatus:
    name = topic_name(settings, spec.topic)
    sources = [TopicPartition(name, number) for number in range(count)]
    begins: dict[TopicPartition, int] = await reader.beginning_offsets(sources)
    ends: dict[TopicPartition, int] = await reader.end_offsets(sources)
    groups = {
        group: await _group(admin, reader, f"{settings.topic_prefix}{group}", ends) for group in spec.groups
    }
    return TopicStatus(
        name=name,
        partitions=tuple(
            PartitionStatus(
                number=source.partition,
                begin=begins[source],
                end=ends[source],
                groups={group: found[source] for group, found in groups.items()},
            )
            for source in sources
        ),
    )


async def _group(
    admin: AIOKafkaAdminClient, reader: AIOKafkaConsumer, group: str, ends: dict[TopicPartition, int]
) -> dict[TopicPartition, GroupStatus]:
    found = await fetch_committed(admin, group, list(ends))
    offsets = {source: value.offset for source, value in found.items() if value.offset >= 0}
    oldest = await _oldest_ms(reader, {each: at for each, at in offsets.items() if at < ends[each]}, ends)
    return {
        source: GroupStatus(
            committed=offsets.get(source),
            lag=max(end - offsets.get(source, end), 0),
            oldest_age_s=max(time.time() - oldest[source] / 1000, 0.0) if source in oldest else None,
            blamed=decode_metadata(offsets.get(source, 0), found[source].metadata or "").attempts,
        )
        for source, end in ends.items()
    }


async def _oldest_ms(
    reader: AIOKafkaConsumer, offsets: dict[TopicPartition, int], ends: Mapping[TopicPartition, int]
) -> dict[TopicPartition, int]:
    """Timestamp of the first record at or behind each offset, as far as one can be read in time."""
    oldest: dict[TopicPartition, int] = {}
    reader.assign(list(offsets))
    for source, offset in offsets.items():
        reader.seek(source, offset)
    damaged: set[TopicPartition] = set()
    give_up_at = time.monotonic() + OLDEST_TIMEOUT_S
    while time.monotonic() < give_up_at and (
        missing := await _unread(reader, offsets.keys() - oldest - damaged, ends)
    ):
        for source in missing:
            try:
                read = await reader.getmany(source, timeout_ms=PEEK_MS // len(missing), max_records=1)
            except Exception as error:
                if not is_damage(error):
                    raise
                log.warning(
                    "topics.unreadable", topic=source.topic, partition=source.partition, error=repr(error)
                )
                damaged.add(source)
            else:
                oldest |= {each: records[0].timestamp for each, records in read.items()}
    return oldest


async def _unread(
    reader: AIOKafkaConsumer, sources: Iterable[TopicPartition], ends: Mapping[TopicPartition, int]
) -> list[TopicPartition]:
    """Those of `sources` that have not been read to their end."""
    return [each for each in sources if await reader.position(each) < ends[each]]
