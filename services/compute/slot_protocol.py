"""The bytes between a consumer, its slots and the server that forks them.

A slot's channel carries frames: two lengths, a small JSON header, a body. A task's frame is followed by a
byte that is read when the task begins, with its timer set: while the kernel knows of unread bytes, it has not
begun. The control line to the server carries JSON messages, one a packet. Nothing else crosses: no object of
an operation is ever unpickled in the consumer.
"""

import struct
from collections.abc import Iterator
from typing import Final, Literal

import msgspec

__all__ = [
    "LENGTHS",
    "MAX_HEADER_BYTES",
    "MAX_PACKET_BYTES",
    "START",
    "Broken",
    "Command",
    "Exceeded",
    "Exited",
    "Forked",
    "FrameError",
    "FrameReader",
    "KillSlot",
    "Notice",
    "Ping",
    "Pong",
    "ReplyKind",
    "ServerReady",
    "SlotReady",
    "StartFailed",
    "StartSlot",
    "TaskReply",
    "TaskRequest",
    "WatchSlot",
    "encode",
    "pack_frame",
    "pack_task",
]

LENGTHS: Final = struct.Struct(">II")
"""Bytes of the header and of the body, ahead of both."""

START: Final = b"!"
"""The byte that follows a task's frame."""

MAX_HEADER_BYTES: Final = 64 * 1024
MAX_PACKET_BYTES: Final = 64 * 1024

ReplyKind = Literal[
    "completed",
    "not_started",
    "raised",
    "memory",
    "invalid_input",
    "unknown_operation",
    "invalid_result",
    "too_large",
]

Exceeded = Literal["", "memory", "processes"]
"""A limit of all processes of a task."""


class TaskRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A task for a slot; the body of the frame is its input as JSON."""

    number: int
    operation: str
    timeout_ms: int


class SlotReady(msgspec.Struct, frozen=True):
    """The first frame of a slot, sent when it is isolated and can take a task."""

    rss_bytes: int


class TaskReply(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The end of the task of that number; the body of the frame is the result as JSON, or empty.

    `rss_bytes` is what the slot keeps, 0 when the task had a process of its own. `retire_reason` says why the
    slot must not run another task, if so. `fields` says what is wrong where in an invalid input.
    """

    number: int
    kind: ReplyKind
    compute_ms: float = 0
    rss_bytes: int = 0
    peak_rss_bytes: int = 0
    retire_reason: str = ""
    error_type: str = ""
    message: str = ""
    fields: tuple[tuple[str, str], ...] = ()


class StartSlot(msgspec.Struct, frozen=True, tag="start"):
    """Fork a slot. The packet carries two descriptors: its channel, and where its output goes."""

    slot: int


class KillSlot(msgspec.Struct, frozen=True, tag="kill"):
    """Kill a slot and everything that it started."""

    slot: int


class WatchSlot(msgspec.Struct, frozen=True, tag="watch"):
    """Hold the processes of a slot to the limits of the operation that task `number` runs.

    `base_bytes` was resident before the task. Without an operation the watch ends.
    """

    slot: int
    number: int = 0
    operation: str = ""
    base_bytes: int = 0


class Ping(msgspec.Struct, frozen=True, tag="ping"):
    """Answer."""


Command = StartSlot | KillSlot | WatchSlot | Ping


class ServerReady(msgspec.Struct, frozen=True, tag="ready"):
    """The server has loaded every operation. `threads` above 1 were started by what it imported."""

    threads: int


class Broken(msgspec.Struct, frozen=True, tag="broken"):
    """The server cannot load the operations; `message` is for the person who installed them."""

    message: str


class Forked(msgspec.Struct, frozen=True, tag="forked"):
    """A slot has a process, which has not isolated itself yet."""

    slot: int
    pid: int


class StartFailed(msgspec.Struct, frozen=True, tag="start_failed"):
    """The system has no room for another process."""

    slot: int
    message: str


class Exited(msgspec.Struct, frozen=True, tag="exited", kw_only=True, omit_defaults=True):
    """A slot and all that it started are gone, but `left` processes that cannot be killed.

    `status` is as from `wait`, the peak is its last task's, `at_s` the time of its death by the monotonic
    clock. `exceeded` is the limit that task `number` was killed for by the server, if it was.
    """

    slot: int
    status: int
    peak_rss_bytes: int
    at_s: float
    number: int = 0
    exceeded: Exceeded = ""
    left: int = 0


class Pong(msgspec.Struct, frozen=True, tag="pong"):
    """The server lives."""


Notice = ServerReady | Broken | Forked | StartFailed | Exited | Pong


class FrameError(ValueError):
    """The peer announced a frame beyond the limits: it does not speak the protocol."""


class FrameReader:
    """Cuts a stream of bytes into frames, however the bytes arrive.

    Args:
        max_body_bytes: longest body that is accepted.
    """

    def __init__(self, max_body_bytes: int) -> None:
        self._max_body_bytes = max_body_bytes
        self._buffer = bytearray()

    @property
    def has_begun(self) -> bool:
        """Whether the first bytes of a frame are here and the last are not."""
        return bool(self._buffer)

    def feed(self, data: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Header and body of every frame that `data` completes.

        Raises:
            FrameError: a length is beyond its limit; the stream is of no use any more.
        """
        self._buffer += data
        while len(self._buffer) >= LENGTHS.size:
            header_bytes, body_bytes = LENGTHS.unpack_from(self._buffer)
            if header_bytes > MAX_HEADER_BYTES or body_bytes > self._max_body_bytes:
                raise FrameError(f"a frame of {header_bytes} and {body_bytes} bytes is beyond every limit")
            body_at = LENGTHS.size + header_bytes
            end = body_at + body_bytes
            if len(self._buffer) < end:
                return
            header, body = bytes(self._buffer[LENGTHS.size : body_at]), bytes(self._buffer[body_at:end])
            del self._buffer[:end]
            yield header, body


_encoder: Final = msgspec.json.Encoder()


def encode(message: Command | Notice) -> bytes:
    """One packet of the control line."""
    return _encoder.encode(message)


def pack_frame(header: TaskReply | SlotReady, body: bytes = b"") -> bytes:
    """One frame of a channel."""
    return _pack(header, body)


def pack_task(request: TaskRequest, body: bytes) -> bytes:
    """A task's frame, and the byte that is read when it begins."""
    return _pack(request, body, START)


def _pack(header: TaskRequest | TaskReply | SlotReady, body: bytes, behind: bytes = b"") -> bytes:
    head = _encoder.encode(header)
    return b"".join((LENGTHS.pack(len(head), len(body)), head, body, behind))
