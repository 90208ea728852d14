"""The metadata that the broker keeps beside a committed offset, as text and back. Pure.

The text is a version, a colon and the base-64 of unsigned LEB128 integers: the number of blamed offsets and
each as (offset, attempts), then ranges of finished offsets as (gap, length) until the end. Offsets are
relative to those that precede them, so an ordinary range takes two bytes. Ranges that do not fit are left out
from the far end: forgetting that an offset is finished repeats its work, nothing worse.
"""

import base64
import binascii
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from shared.kafka.offset_tracker import OffsetRange

__all__ = ["MAX_METADATA", "CommitMetadata", "decode_metadata", "encode_metadata"]

MAX_METADATA: Final = 4_096
"""Characters that a broker takes by default (`offset.metadata.max.bytes`); one more fails the commit."""

_VERSION: Final = "2:"
_RESERVING: Final = "1:"
"""The version before: three numbers about reserved offsets come first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CommitMetadata:
    """State of a partition at and beyond its committed offset.

    Attributes:
        attempts: per blamed offset, how many runs of it have ended with the death of their process; the last
            one may still be running.
        done: ranges of finished offsets beyond the committed one.
    """

    attempts: Mapping[int, int] = field(default_factory=dict)
    done: tuple[OffsetRange, ...] = ()


def encode_metadata(committed: int, metadata: CommitMetadata, room: int = MAX_METADATA) -> str:
    """`metadata` as text of at most `room` characters, less its far end if need be."""
    room_bytes = (room - len(_VERSION)) // 4 * 3
    attempts = dict(metadata.attempts)
    while len(data := _head(committed, attempts)) > room_bytes:
        attempts.popitem()
    previous = committed
    for first, count in metadata.done:
        entry = _varint(first - previous) + _varint(count)
        if len(data) + len(entry) > room_bytes:
            break
        data += entry
        previous = first + count
    return _VERSION + base64.b64encode(data).decode("ascii")


def decode_metadata(committed: int, text: str) -> CommitMetadata:
    """The metadata in a commit's text; empty when another program wrote the text."""
    version, data = text[: len(_VERSION)], text[len(_VERSION) :]
    if version not in (_VERSION, _RESERVING):
        return CommitMetadata()
    try:
        numbers = _numbers(base64.b64decode(data, validate=True))
        for _ in range(3 if version == _RESERVING else 0):
            next(numbers)
        count = next(numbers)
        attempts = {committed + next(numbers): next(numbers) for _ in range(count)}
    except (binascii.Error, StopIteration, RuntimeError):
        return CommitMetadata()
    return CommitMetadata(attempts=attempts, done=tuple(_ranges(committed, numbers)))


def _head(committed: int, attempts: Mapping[int, int]) -> bytearray:
    head = bytearray(_varint(len(attempts)))
    for offset, count in attempts.items():
        head += _varint(offset - committed) + _varint(count)
    return head


def _ranges(committed: int, numbers: Iterator[int]) -> Iterator[OffsetRange]:
    previous = committed
    for gap in numbers:
        count = next(numbers, 0)
        yield previous + gap, count
        previous += gap + count


def _varint(number: int) -> bytes:
    """Unsigned LEB128: seven bits a byte, the lowest first, the top bit set when more follow."""
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


def _numbers(data: Iterable[int]) -> Iterator[int]:
    """The LEB128 integers of `data`; one that is cut off at the end is left out."""
    number, shift = 0, 0
    for byte in data:
        number |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            yield number
            number, shift = 0, 0
