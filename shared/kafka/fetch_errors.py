"""What the errors of a fetch say: bytes that cannot be read, partitions without an offset to read from."""

from collections.abc import Mapping
from gzip import BadGzipFile
from typing import Final

from aiokafka.errors import (
    CorruptRecordException,
    KafkaError,
    NoOffsetForPartitionError,
    OffsetOutOfRangeError,
    RecordTooLargeError,
    UnsupportedCodecError,
)

from shared.kafka.records import Partition

__all__ = ["LOST_OFFSET", "is_damage", "partitions_of"]

LOST_OFFSET: Final = (NoOffsetForPartitionError, OffsetOutOfRangeError)
"""A partition has no committed offset, or one that has left the log."""

_UNREADABLE: Final = (CorruptRecordException, RecordTooLargeError, UnsupportedCodecError, BadGzipFile)
"""A batch that is cut short looks to the library like a record that is too large."""

_OF_THE_MACHINE: Final = (KafkaError, OSError, MemoryError)


def is_damage(error: Exception) -> bool:
    """Whether bytes could not be read, as opposed to fetched; parsers and decompressors raise all kinds."""
    return isinstance(error, _UNREADABLE) or not isinstance(error, _OF_THE_MACHINE)


def partitions_of(error: KafkaError) -> list[Partition]:
    """Partitions that an error of `LOST_OFFSET` is about: its first argument is one, or a mapping."""
    told = error.args[0]
    return [Partition(*source) for source in (told if isinstance(told, Mapping) else [told])]
