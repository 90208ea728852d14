"""What the last commits of partitions tell their new owner."""

from collections.abc import Iterable, Mapping

from shared.kafka.commit_note import decode_note
from shared.kafka.group_client import GroupClient
from shared.kafka.offset_tracker import OffsetTracker
from shared.kafka.partition_run import CommitPoint
from shared.kafka.records import Partition
from shared.kafka.suspicion import Probation, Suspicion

__all__ = ["Recalled", "recall"]

Recalled = tuple[OffsetTracker, Suspicion | None]


async def recall(
    client: GroupClient,
    partitions: Iterable[Partition],
    probation: Probation | None,
    own_commits: Mapping[Partition, CommitPoint],
) -> dict[Partition, Recalled]:
    """Trackers of those partitions that have a commit, with what their former owners' ends say.

    Raises:
        KafkaError, TimeoutError: the broker did not answer.
    """
    found = await client.committed(partitions)
    ends = await client.ends(found) if probation is not None else {}
    recalled: dict[Partition, Recalled] = {}
    for partition, (offset, metadata) in found.items():
        note = decode_note(offset, metadata)
        own = own_commits.get(partition)
        suspicion = None
        if probation is not None:
            is_own = own is not None and own[:2] == (offset, metadata)
            end = ends[partition]
            suspicion = Suspicion(probation, note, committed=offset, log_end=end, own=is_own)
        recalled[partition] = OffsetTracker(offset, note.done), suspicion
    return recalled
