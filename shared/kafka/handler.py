"""What a service gives to its partition consumer."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from shared.kafka.records import Partition, Record
from shared.kafka.suspicion import Probation

__all__ = ["MemberSpec", "PartitionHandler"]


class PartitionHandler(Protocol):
    """What a service does with its partitions."""

    async def on_assigned(self, partitions: frozenset[Partition]) -> None:
        """Prepare for `partitions`; none of their records is handled before this has returned.

        Called once per partition number, concurrently, with the partitions of all topics that have come
        under that number. Repeated after an exception; cancelled when the partitions are lost meanwhile.
        """

    async def handle(self, record: Record) -> None:
        """Work on `record`. Returning means that its effect is durable and the offset may be committed.

        An exception means a fault of the infrastructure: the record is handled again after a back-off. One
        that merely waits should raise `LeaveRecord` once the service stops, so that the drain need not wait.
        """

    async def on_revoked(self, partitions: frozenset[Partition]) -> None:
        """Forget `partitions`: they are no longer this member's. All work on them has ended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberSpec:
    """What a member reads, by full names, and how much of it at a time."""

    group: str
    windows: Mapping[str, int]
    window_bytes: int
    dozing: frozenset[str]
    probation: Probation | None
