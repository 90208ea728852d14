"""A partition's owner and processor of which nothing more is asked, and quarantines with journals."""

from pathlib import Path

from shared.kafka.crash_journal import CrashJournal
from shared.kafka.partition import ByteBudget, PartitionProcessor
from shared.kafka.records import Partition, Record

MIB = 1024 * 1024


class Owner:
    """Handles everything at once, and remembers it."""

    def __init__(self) -> None:
        self.handled: list[int] = []
        self.quarantined: list[int] = []
        self.room = 0

    async def handle(self, record: Record) -> None:
        self.handled.append(record.offset)

    async def quarantine(self, processor: PartitionProcessor, record: Record) -> None:
        self.quarantined.append(record.offset)

    def on_room(self, processor: PartitionProcessor) -> None:
        self.room += 1

    def on_bug(self, error: BaseException) -> None:
        raise error


def processor_of(
    partition: Partition | None = None,
    owner: Owner | None = None,
    *,
    window: int = 256,
    window_bytes: int = 32 * MIB,
    budget: ByteBudget | None = None,
) -> PartitionProcessor:
    return PartitionProcessor(
        partition or Partition("t", 0),
        owner or Owner(),
        window=window,
        window_bytes=window_bytes,
        budget=budget or ByteBudget(256 * MIB),
    )


def record(offset: int, *, value: bytes = b"x", timestamp_ms: int = 1_000, number: int = 0) -> Record:
    return Record("t", number, offset, timestamp_ms, None, value)


def journal(directory: Path, identity: str = "i") -> CrashJournal:
    return CrashJournal(directory / "test.journal", identity)


def after_a_death(directory: Path, *held: tuple[Record, int], identity: str = "i") -> CrashJournal:
    """The journal of a life that follows one which held these records in their runs of that number."""
    former = journal(directory, identity)
    for each, attempt in held:
        former.write(each, attempt)
    former.close()
    return journal(directory, identity)
