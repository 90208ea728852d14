"""Reading all partitions at once, and each alone for as long as the bytes of any are damaged.

The client library fails over a damaged batch without a word about its partition for some kinds of damage. It
drops what it had taken out of other partitions in the same call, and counts it as read.
"""

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition

from shared.kafka.fetch_errors import LOST_OFFSET, is_damage, partitions_of
from shared.kafka.library_tasks import fetch
from shared.kafka.reader import to_record
from shared.kafka.records import Partition, Record

__all__ = ["Found", "LogReader"]

log = structlog.get_logger()

POLL_MS: Final = 200
DAMAGE_LIMIT: Final = 3
"""Attempts at the same bytes, each fetched anew: the damage may lie on the way."""

APART_S: Final = 5.0
"""Partitions are read alone for so long after the last damage: ten times what fetching them anew takes."""


@dataclass(frozen=True, slots=True)
class Found:
    """What has come, and partitions that cannot be read on, each with the reason."""

    records: list[Record] = field(default_factory=list)
    lost: dict[Partition, str] = field(default_factory=dict)


class LogReader:
    """Reads from a client to which partitions are assigned."""

    def __init__(self, client: AIOKafkaConsumer) -> None:
        self._client = client
        self._damaged: Counter[Partition] = Counter()
        self._apart_until = 0.0

    async def read(self, positions: Mapping[Partition, int], most_records: int) -> Found:
        """What has come for `positions`, where each partition is, after a short wait when nothing has.

        Raises:
            DeadTaskError: nothing will come any more.
            KafkaError: nothing can be read now.
        """
        if time.monotonic() < self._apart_until:
            return await self._read_apart(positions, most_records)
        try:
            batches = await fetch(self._client, timeout_ms=POLL_MS, max_records=most_records)
        except LOST_OFFSET as error:
            return Found(lost={each: repr(error) for each in partitions_of(error)})
        except Exception as error:
            if not is_damage(error):
                raise
            log.warning("projector.damage", error=repr(error))
            self._read_alone_from(positions)
            return Found()
        return Found([to_record(raw) for batch in batches.values() for raw in batch])

    def _read_alone_from(self, positions: Mapping[Partition, int]) -> None:
        self._apart_until = time.monotonic() + APART_S
        for each, position in positions.items():
            self._client.seek(TopicPartition(*each), position)

    async def _read_apart(self, positions: Mapping[Partition, int], most_records: int) -> Found:
        """Each partition for a share of the time and of the records, so that none waits for another."""
        found = Found()
        for each, position in positions.items():
            records, error = await self._read_alone(each, len(positions), most_records)
            found.records.extend(records)
            if error is None:
                continue
            if isinstance(error, LOST_OFFSET):
                found.lost[each] = repr(error)
                continue
            self._apart_until = time.monotonic() + APART_S
            self._client.seek(TopicPartition(*each), records[-1].offset + 1 if records else position)
            if not records and self._is_given_up(each):
                found.lost[each] = f"the bytes at offset {position} are damaged: {error!r}"
        return found

    async def _read_alone(
        self, partition: Partition, share: int, most_records: int
    ) -> tuple[list[Record], Exception | None]:
        """Records up to the first that cannot be read: the library hands out nothing of a call that fails."""
        source = TopicPartition(*partition)
        records: list[Record] = []
        try:
            while len(records) < max(1, most_records // share):
                wait_ms = 0 if records else POLL_MS // share
                batch = await fetch(self._client, source, timeout_ms=wait_ms, max_records=1)
                if not batch:
                    break
                records += map(to_record, batch[source])
        except Exception as error:
            lost = isinstance(error, LOST_OFFSET)
            if not lost and not is_damage(error):
                raise
            return records, error
        if records:
            del self._damaged[partition]
        return records, None

    def _is_given_up(self, partition: Partition) -> bool:
        self._damaged[partition] += 1
        return self._damaged[partition] >= DAMAGE_LIMIT
