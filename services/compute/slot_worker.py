"""Inside a slot: one process that runs one order at a time and dies alone."""

import ctypes
import faulthandler
import gc
import os
import resource
import socket
import sys
import time
from contextlib import suppress
from typing import Final

import msgspec

from services.compute.slot_isolation import (
    KernelTimer,
    adopt_orphans,
    close_inherited_files,
    die_with_parent,
    ignore_termination,
    limit_memory,
    yield_to_others,
)
from services.compute.slot_leftovers import Surroundings
from services.compute.slot_protocol import LENGTHS, Answer, AnswerKind, Order, pack_frame
from shared.operations.registry import InvalidInputError, Registry, UnknownOperationError
from shared.operations.results import InvalidResultError, ResultTooLargeError, encode_result

__all__ = ["run_slot"]

KERNEL_GRACE_MS: Final = 50
"""How long after the limit the kernel kills a slot whose consumer did not."""

RESET_PEAK: Final = b"5"
"""Written to `clear_refs`, sets the peak of the resident size back to its present value (proc(5))."""

MAX_MESSAGE: Final = 2_000
MAX_TYPE: Final = 200
MAX_FIELD: Final = 200
PAGE_BYTES: Final = resource.getpagesize()

_orders: Final = msgspec.json.Decoder(Order)
_libc: Final = ctypes.CDLL(None)


def run_slot(parent: int, channel: socket.socket, output: int, registry: Registry) -> None:
    """Isolate this process and answer orders from `channel` until it is closed.

    Args:
        parent: process id of the server that forked this process.
        channel: the line to the consumer.
        output: descriptor that receives what operations print.
        registry: the operations, loaded before the fork.
    """
    _isolate(parent, channel, output)
    slot = _Worker(registry)
    while (frame := _receive(channel)) is not None:
        channel.sendall(slot.answer(*frame))


def _isolate(parent: int, channel: socket.socket, output: int) -> None:
    os.setpgid(0, 0)
    die_with_parent(parent)
    adopt_orphans()
    yield_to_others()
    ignore_termination()
    os.dup2(output, 1)
    os.dup2(output, 2)
    close_inherited_files(channel.fileno())
    faulthandler.enable(file=2)
    for number, name in ((1, "stdout"), (2, "stderr")):
        setattr(sys, name, open(number, "w", buffering=1, errors="backslashreplace", closefd=False))  # noqa: SIM115


def _receive(channel: socket.socket) -> tuple[bytes, bytes] | None:
    lengths = _receive_exactly(channel, LENGTHS.size)
    if lengths is None:
        return None
    header_bytes, body_bytes = LENGTHS.unpack(lengths)
    frame = _receive_exactly(channel, header_bytes + body_bytes)
    return None if frame is None else (frame[:header_bytes], frame[header_bytes:])


def _receive_exactly(channel: socket.socket, count: int) -> bytes | None:
    data = channel.recv(count)
    while data and len(data) < count:
        chunk = channel.recv(count - len(data))
        data = data + chunk if chunk else b""
    return data or None


class _Worker:
    """Executes orders; whatever an operation raises becomes an answer."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._timer = KernelTimer()
        self._peak_reset = os.open("/proc/self/clear_refs", os.O_WRONLY | os.O_CLOEXEC)
        self._surroundings = Surroundings.now()

    def answer(self, header: bytes, body: bytes) -> bytes:
        """The frame that answers an order, sent when nothing of the task is left to run."""
        order = _orders.decode(header)
        self._timer.arm(order.timeout_ms + KERNEL_GRACE_MS)
        self._forget_peak()
        kind, error, result, compute_ms = self._timed(order, body)
        answer = Answer(
            number=order.number,
            kind=kind,
            compute_ms=compute_ms,
            error_type=type(error).__name__[:MAX_TYPE] if error else "",
            message=_describe(error) if kind != "memory" else self._memory_words(order.operation),
            fields=_fields(error),
            peak_rss_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
            worn=self._clean_up(kind, error),
            rss_bytes=_rss_bytes(),
        )
        self._timer.disarm()
        return pack_frame(answer, result)

    def _timed(self, order: Order, body: bytes) -> tuple[AnswerKind, BaseException | None, bytes, float]:
        began = time.perf_counter()
        kind, error, result = self._attempt(order, body)
        return kind, error, result, round((time.perf_counter() - began) * 1000, 3)

    def _attempt(self, order: Order, body: bytes) -> tuple[AnswerKind, BaseException | None, bytes]:
        try:
            return "completed", None, self._compute(order.operation, body)
        except UnknownOperationError as error:
            return "unknown_operation", error, b""
        except InvalidInputError as error:
            return "invalid_input", error, b""
        except InvalidResultError as error:
            return "invalid_result", error, b""
        except ResultTooLargeError as error:
            return "too_large", error, b""
        except MemoryError as error:
            return "memory", error, b""
        except BaseException as error:  # noqa: BLE001 - an operation may raise anything, SystemExit too
            return "raised", error, b""
        finally:
            limit_memory(None)

    def _compute(self, name: str, body: bytes) -> bytes:
        operation = self._registry.get(name)
        task = self._registry.parse(name, body)
        limit_memory(operation.limits.memory_bytes)
        return encode_result(operation.run(task), operation.limits.max_result_bytes)

    def _clean_up(self, kind: AnswerKind, error: BaseException | None) -> str:
        """Run what the task still owes (finalizers, buffered output) within its own time limit.

        Returns why the process must not be used again, or nothing.
        """
        if error is not None:
            error.__traceback__ = error.__context__ = error.__cause__ = None
        gc.collect()
        for stream in (sys.stdout, sys.stderr):
            with suppress(Exception):
                stream.flush()
        _libc.fflush(None)
        return "memory limit reached" if kind == "memory" else self._surroundings.changed()

    def _memory_words(self, name: str) -> str:
        allowed = self._registry.get(name).limits.memory_bytes
        return f"the operation needed more than the {allowed} bytes of memory that it may take"

    def _forget_peak(self) -> None:
        with suppress(OSError):
            os.pwrite(self._peak_reset, RESET_PEAK, 0)


def _describe(error: BaseException | None) -> str:
    """The words of an exception, whose `__str__` is the operation's own and may fail in any way."""
    if error is None:
        return ""
    try:
        text = str(error) or repr(error)
    except BaseException:  # noqa: BLE001 - as above
        return "the exception cannot be described"
    return text[:MAX_MESSAGE].encode("utf-8", "backslashreplace").decode()


def _fields(error: BaseException | None) -> tuple[tuple[str, str], ...]:
    if not isinstance(error, InvalidInputError):
        return ()
    return tuple((_cut(path), _cut(words)) for path, words in error.fields)


def _cut(text: str) -> str:
    return text[:MAX_FIELD].encode("utf-8", "backslashreplace").decode()


def _rss_bytes() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * PAGE_BYTES
