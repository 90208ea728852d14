"""What a commit says beside its offset, in the metadata that the broker keeps with it. Pure.

The text is a version, a colon and the base-64 of unsigned LEB128 integers: `hi`, `deaths`, `suspect_until`,
the number of attempts and each as (offset, count), then runs as (gap, length) until the end. Offsets are
relative to what precedes them, so an ordinary run takes two bytes. Runs that do not fit are left out from
the far end: forgetting that an offset is finished repeats its work, nothing worse.
"""

import base64
import binascii
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from shared.kafka.offset_tracker import Run

__all__ = ["MAX_METADATA", "CommitNote", "decode_note", "encode_note"]

MAX_METADATA: Final = 4_096
"""Characters that a broker takes by default (`offset.metadata.max.bytes`); one more fails the commit."""

_VERSION: Final = "1:"


@dataclass(frozen=True, slots=True, kw_only=True)
class CommitNote:
    """The state of a partition at and beyond its committed offset.

    Attributes:
        hi: nothing at or above this offset was in flight when the commit was made, nor will be before the
            next. The committed offset itself means that nothing was: the owner has stopped in good order.
        deaths: how often an owner died since the committed offset was below `suspect_until`.
        suspect_until: offsets below may have been in flight at one of those deaths.
        attempts: per offset, how often it was run alone; the last one may still be running.
        done: runs of finished offsets beyond the committed one.
    """

    hi: int
    deaths: int = 0
    suspect_until: int = 0
    attempts: Mapping[int, int] = field(default_factory=dict)
    done: tuple[Run, ...] = ()


def encode_note(committed: int, note: CommitNote, room: int = MAX_METADATA) -> str:
    """`note` as text of at most `room` characters; its furthest runs are left out when they do not fit."""
    room_bytes = (room - len(_VERSION)) // 4 * 3
    data = bytearray()
    for number in _head(committed, note):
        data += _varint(number)
    previous = committed
    for first, count in note.done:
        entry = _varint(first - previous) + _varint(count)
        if len(data) + len(entry) > room_bytes:
            break
        data += entry
        previous = first + count
    return _VERSION + base64.b64encode(data).decode("ascii")


def decode_note(committed: int, text: str) -> CommitNote:
    """The note in a commit's metadata; an empty one when it is not ours."""
    if not text.startswith(_VERSION):
        return CommitNote(hi=committed)
    try:
        numbers = _numbers(base64.b64decode(text.removeprefix(_VERSION), validate=True))
        hi, deaths, until, count = (next(numbers) for _ in range(4))
        attempts = {committed + next(numbers): next(numbers) for _ in range(count)}
    except (binascii.Error, StopIteration, RuntimeError):
        return CommitNote(hi=committed)
    return CommitNote(
        hi=committed + hi,
        deaths=deaths,
        suspect_until=committed + until if until else 0,
        attempts=attempts,
        done=tuple(_runs(committed, numbers)),
    )


def _head(committed: int, note: CommitNote) -> Iterator[int]:
    yield max(note.hi - committed, 0)
    yield note.deaths
    yield max(note.suspect_until - committed, 0)
    yield len(note.attempts)
    for offset, count in note.attempts.items():
        yield offset - committed
        yield count


def _runs(committed: int, numbers: Iterator[int]) -> Iterator[Run]:
    previous = committed
    for gap in numbers:
        count = next(numbers, 0)
        yield previous + gap, count
        previous += gap + count


def _varint(number: int) -> bytes:
    """Unsigned LEB128: seven bits a byte, the lowest first, the top bit says that more follow."""
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


def _numbers(data: Iterable[int]) -> Iterator[int]:
    number = shift = 0
    for byte in data:
        number |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            yield number
            number = shift = 0
