"""Inside a slot: one process that runs one task at a time and dies alone."""

import ctypes
import decimal
import faulthandler
import gc
import os
import resource
import signal
import socket
import sys
import tempfile
import time
from contextlib import suppress
from contextvars import copy_context
from typing import Final, NoReturn

import msgspec

from services.compute.slot_isolation import (
    GrowthLimit,
    KernelTimer,
    adopt_orphans,
    close_inherited_files,
    fork_ignoring_termination,
    ignore_termination,
    signal_when_parent_dies,
    yield_to_others,
)
from services.compute.slot_protocol import (
    LENGTHS,
    START,
    ReplyKind,
    SlotReady,
    TaskReply,
    TaskRequest,
    pack_frame,
)
from services.compute.slot_state import ProcessState, Remains
from services.compute.slot_tree import has_children, kill_all_below
from shared.operations.registry import InvalidInputError, Registry, UnknownOperationError
from shared.operations.results import InvalidResultError, ResultTooLargeError, encode_result

__all__ = ["run_slot"]

RESET_PEAK: Final = b"5"
"""Written to `clear_refs`, sets the peak of the resident size back to its present value (proc(5))."""

SWEEP_S: Final = 1.0
"""Time for what a task has left to die; the server kills the rest."""

MAX_MESSAGE: Final = 2_000
MAX_WORD: Final = 200

_KINDS: Final[tuple[tuple[type[BaseException], ReplyKind], ...]] = (
    (UnknownOperationError, "unknown_operation"),
    (InvalidInputError, "invalid_input"),
    (InvalidResultError, "invalid_result"),
    (ResultTooLargeError, "too_large"),
    (MemoryError, "memory"),
    (BaseException, "raised"),
)
_requests: Final = msgspec.json.Decoder(TaskRequest)
_libc: Final = ctypes.CDLL(None)


def run_slot(parent: int, channel: socket.socket, output: int, directory: str, registry: Registry) -> None:
    """Isolate this process and run the tasks that come over `channel` until it is closed.

    Args:
        parent: process id of the server that forked this process.
        channel: the line to the consumer.
        output: descriptor that receives what operations print.
        directory: an empty directory, the TMPDIR of operations.
        registry: the operations, loaded before the fork.
    """
    _isolate(parent, channel, output, directory)
    replied = os.eventfd(0, os.EFD_NONBLOCK)
    worker = _Worker(registry, channel, directory)
    channel.sendall(pack_frame(SlotReady(worker.limit.resident_bytes())))
    while (frame := _receive(channel)) is not None:
        request, body = _requests.decode(frame[0]), frame[1]
        if registry.is_reusable(request.operation):
            channel.sendall(worker.run(request, body))
            continue
        try:
            pid = fork_ignoring_termination()
        except OSError as error:
            channel.sendall(_not_started(channel, request, error))
            continue
        if pid == 0:
            _run_once(channel, directory, registry, request, body, replied)
        _end_as(os.waitpid(pid, 0)[1], replied)
        _end_with_children()


def _run_once(
    channel: socket.socket,
    directory: str,
    registry: Registry,
    request: TaskRequest,
    body: bytes,
    replied: int,
) -> NoReturn:
    """Run one task in this fork of the slot, which ends with it."""
    status = 1
    try:
        channel.sendall(_run_in_fork(channel, directory, registry, request, body))
        os.eventfd_write(replied, 1)
        status = 0
    except BaseException:  # noqa: BLE001 - shown, then the process ends
        sys.excepthook(*sys.exc_info())
    finally:
        os._exit(status)


def _run_in_fork(
    channel: socket.socket, directory: str, registry: Registry, request: TaskRequest, body: bytes
) -> bytes:
    """The frame that replies; what the system refuses before the task begins is no fault of the task."""
    try:
        signal_when_parent_dies(signal.SIGKILL, os.getpgrp())
        adopt_orphans()
        worker = _Worker(registry, channel, directory, once=True)
    except OSError as error:
        return _not_started(channel, request, error)
    return worker.run(request, body)


def _not_started(channel: socket.socket, request: TaskRequest, error: OSError) -> bytes:
    channel.recv(len(START))
    return pack_frame(TaskReply(number=request.number, kind="not_started", message=str(error)))


def _end_with_children() -> None:
    """End if anything outlives the fork of a task: it came here as an orphan, and may hold the channel."""
    if has_children():
        kill_all_below(SWEEP_S)
        os._exit(0)


def _end_as(status: int, replied: int) -> None:
    """Go on after a fork that has replied; after any other end in the same way, for the server to tell."""
    code = os.waitstatus_to_exitcode(status)
    if code == 0:
        with suppress(BlockingIOError):
            os.eventfd_read(replied)
            return
    if code < 0:
        with suppress(OSError):
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code)


def _isolate(parent: int, channel: socket.socket, output: int, directory: str) -> None:
    os.setpgid(0, 0)
    signal_when_parent_dies(signal.SIGKILL, parent)
    adopt_orphans()
    yield_to_others()
    ignore_termination()
    os.environ["TMPDIR"] = tempfile.tempdir = directory
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
    """Runs tasks, or with `once` the only one; whatever an operation raises becomes a reply."""

    def __init__(
        self, registry: Registry, channel: socket.socket, directory: str, *, once: bool = False
    ) -> None:
        self._registry = registry
        self._channel = channel
        self._timer = KernelTimer()
        self._peak_reset = os.open("/proc/self/clear_refs", os.O_WRONLY | os.O_CLOEXEC)
        self.limit = GrowthLimit()
        self._remains = Remains(directory)
        self._state = None if once else ProcessState(self.limit.descriptor)

    def run(self, request: TaskRequest, body: bytes) -> bytes:
        """The frame that replies to a request, sent when nothing of the task is left to run."""
        self._timer.arm(request.timeout_ms)
        self._channel.recv(len(START))
        with suppress(OSError):
            os.pwrite(self._peak_reset, RESET_PEAK, 0)
        began = time.perf_counter()
        context = copy_context()
        context.run(decimal.setcontext, decimal.getcontext().copy())
        kind, error, result = context.run(self._attempt, request.operation, body)
        compute_ms = round((time.perf_counter() - began) * 1000, 3)
        reply = TaskReply(
            number=request.number,
            kind=kind,
            compute_ms=compute_ms,
            error_type=type(error).__name__[:MAX_WORD] if error else "",
            message=self._describe(kind, error, request.operation),
            fields=_fields(error),
            peak_rss_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
            retire_reason=self._clean_up(kind, error),
            rss_bytes=self.limit.resident_bytes() if self._state else 0,
        )
        self._timer.disarm()
        return pack_frame(reply, result)

    def _attempt(self, name: str, body: bytes) -> tuple[ReplyKind, BaseException | None, bytes]:
        """Run in context variables, and with a context of `decimal`, that are copies for this task."""
        try:
            operation = self._registry.get(name)
            task = self._registry.parse(name, body)
            self.limit.set(operation.limits.memory_bytes)
            result = encode_result(operation.run(task), operation.limits.max_result_bytes)
        except BaseException as error:  # noqa: BLE001 - an operation may raise anything, SystemExit too
            return next(kind for of, kind in _KINDS if isinstance(error, of)), error, b""
        else:
            return "completed", None, result
        finally:
            self.limit.lift()

    def _clean_up(self, kind: ReplyKind, error: BaseException | None) -> str:
        """Do what the task still owes (finalizers, buffered output) within its own time limit.

        Returns why the process must not be used again, or nothing.
        """
        if self._state is not None:
            if error is not None:
                error.__traceback__ = error.__context__ = error.__cause__ = None
            gc.collect()
        for stream in (sys.stdout, sys.stderr):
            with suppress(Exception):
                stream.flush()
        _libc.fflush(None)
        if self._state is None:
            return self._remains.found()
        if kind == "memory":
            return "memory limit reached"
        return ", ".join(filter(None, (self._state.changed(), self._remains.found())))

    def _describe(self, kind: ReplyKind, error: BaseException | None, name: str) -> str:
        """The words of an exception, whose `__str__` is the operation's own and may fail in any way."""
        if error is None:
            return ""
        if kind == "memory":
            allowed = self._registry.get(name).limits.memory_bytes
            return f"the operation needed more than the {allowed} bytes of memory that it may take"
        try:
            return _cut(str(error) or repr(error), MAX_MESSAGE)
        except BaseException:  # noqa: BLE001 - as above
            return "the exception cannot be described"


def _fields(error: BaseException | None) -> tuple[tuple[str, str], ...]:
    if not isinstance(error, InvalidInputError):
        return ()
    return tuple((_cut(path), _cut(words)) for path, words in error.fields)


def _cut(text: str, most: int = MAX_WORD) -> str:
    return text[:most].encode("utf-8", "backslashreplace").decode()
