"""The process that forks slots, reaps them, and ends everything when its consumer is gone.

It loads the operations once, has no threads and never runs an operation. It is the only parent of slots, so
it alone signals and reaps them: a process id is never used after it could have passed to another process.
Orphans that an operation leaves come to it, as it is the reaper of its descendants. Nobody but the consumer
holds the far end of the control line, so its end of file is the consumer's death, whatever the reason; the
kernel wakes a stopped server at that moment.

Run as `python -m services.compute.slot_server DESCRIPTOR CONSUMER DIRECTORY`.
"""

import gc
import os
import resource
import select
import signal
import socket
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

import msgspec

from services.compute.slot_directory import remove_slot_directory
from services.compute.slot_isolation import adopt_orphans, ignore_termination, signal_when_parent_dies
from services.compute.slot_protocol import (
    MAX_PACKET_BYTES,
    Broken,
    Command,
    Exceeded,
    Exited,
    Forked,
    KillSlot,
    Notice,
    Ping,
    Pong,
    ServerReady,
    StartFailed,
    StartSlot,
    WatchSlot,
    encode,
)
from services.compute.slot_tree import (
    children,
    descendants,
    directory_bytes,
    kill,
    memory_bytes,
    remove_directory,
)
from services.compute.slot_worker import run_slot
from shared.operations.registry import PluginError, Registry, UnknownOperationError, load_registry

__all__ = ["MAX_PROCESSES", "SlotServer", "main"]

DESCRIPTORS_OF_SLOT: Final = 2
MAX_PROCESSES: Final = 64
"""Of one task, at a time."""

SAMPLE_S: Final = 0.1
SWEEP_S: Final = 0.001
SWEEP_LIMIT_S: Final = 3.0
"""How long the end of a slot is kept back while descendants of it cannot be killed."""

_commands: Final[msgspec.json.Decoder[Command]] = msgspec.json.Decoder(Command)


@dataclass(slots=True)
class _Child:
    """A slot: the consumer's number for it, and a descriptor that turns readable when it dies."""

    number: int
    pid: int
    pidfd: int
    directory: str
    watched_number: int = 0
    allowed_bytes: int | None = None
    exceeded: Exceeded = ""


class SlotServer:
    """Obeys the commands that come over `control` until it is closed."""

    def __init__(self, control: socket.socket, registry: Registry, directory: str) -> None:
        self._control = control
        self._registry = registry
        self._directory = directory
        self._by_pidfd: dict[int, _Child] = {}
        self._by_number: dict[int, _Child] = {}
        self._ended: list[Exited] = []
        self._unkillable: set[int] = set()
        self._sampled_s = 0.0
        self._poll = select.poll()
        self._poll.register(control, select.POLLIN)

    def serve(self) -> None:
        """Serve until the consumer hangs up; no descendant is alive afterwards."""
        with suppress(BrokenPipeError, ConnectionResetError):
            self._notify(ServerReady(threads=os.stat("/proc/self/task").st_nlink - 2))
            while self._serve_once():
                self._sweep()
                self._sample()
        self._end_all()

    def _serve_once(self) -> bool:
        for descriptor, _ in self._poll.poll(self._pause_ms()):
            child = self._by_pidfd.get(descriptor)
            if child is not None:
                self._reap(child)
                remove_directory(child.directory)
            elif not self._obey():
                return False
        return True

    def _pause_ms(self) -> float | None:
        if self._ended:
            return SWEEP_S * 1000
        busy = self._unkillable or any(child.allowed_bytes for child in self._by_number.values())
        return SAMPLE_S * 1000 if busy else None

    def _obey(self) -> bool:
        data, descriptors, _, _ = socket.recv_fds(self._control, MAX_PACKET_BYTES, DESCRIPTORS_OF_SLOT)
        if not data:
            return False
        match _commands.decode(data):
            case StartSlot(slot=number):
                self._start(number, *descriptors)
            case KillSlot(slot=number) if number in self._by_number:
                _kill_group(self._by_number[number])
            case WatchSlot(slot=number) as watch if number in self._by_number:
                self._watch(self._by_number[number], watch)
            case Ping():
                self._notify(Pong())
        return True

    def _watch(self, child: _Child, watch: WatchSlot) -> None:
        child.watched_number, child.allowed_bytes = watch.number, None
        if watch.operation:
            with suppress(UnknownOperationError):
                operation = self._registry.get(watch.operation)
                child.allowed_bytes = watch.base_bytes + operation.limits.memory_bytes

    def _start(self, number: int, channel: int, output: int) -> None:
        server, directory = os.getpid(), f"{self._directory}/{number}"
        try:
            os.mkdir(directory, 0o700)
            pid = os.fork()
        except OSError as error:
            self._notify(StartFailed(slot=number, message=str(error)))
        else:
            if pid == 0:
                _become_slot(server, channel, output, directory, self._registry)
            self._adopt(number, pid, directory)
        finally:
            os.close(channel)
            os.close(output)

    def _adopt(self, number: int, pid: int, directory: str) -> None:
        with suppress(OSError):  # the slot does so itself as well: whoever comes first
            os.setpgid(pid, pid)
        child = _Child(number, pid, os.pidfd_open(pid), directory)
        self._by_pidfd[child.pidfd] = self._by_number[number] = child
        self._poll.register(child.pidfd, select.POLLIN)
        self._notify(Forked(slot=number, pid=pid))

    def _reap(self, child: _Child) -> None:
        """Reap a dead slot after the rest of its group: till then, its id cannot pass to another group."""
        _kill_group(child)
        _, status, usage = os.wait4(child.pid, 0)
        self._poll.unregister(child.pidfd)
        os.close(child.pidfd)
        del self._by_pidfd[child.pidfd], self._by_number[child.number]
        self._ended.append(
            Exited(
                slot=child.number,
                status=status,
                peak_rss_bytes=usage.ru_maxrss * 1024,
                at_s=time.monotonic(),
                number=child.watched_number if child.exceeded else 0,
                exceeded=child.exceeded,
            )
        )

    def _sweep(self) -> None:
        """Kill what dead slots have left behind, in whatever group, and tell of their end when it is gone."""
        if not self._ended and not self._unkillable:
            return
        left = self._kill_strangers()
        new = left - self._unkillable
        if new and self._ended and time.monotonic() < self._ended[0].at_s + SWEEP_LIMIT_S:
            return
        self._unkillable = left
        for notice in self._ended:
            self._notify(msgspec.structs.replace(notice, left=len(left)))
        self._ended.clear()

    def _kill_strangers(self) -> set[int]:
        """Kill every child that is no slot and all below it; returns those that are there afterwards.

        What a stranger forked at the last moment comes here when it is reaped, so the list is read again.
        """
        strangers = self._strangers()
        for pid in strangers:
            for each in (pid, *descendants(pid)):
                kill(each)
        for pid in strangers:
            os.waitpid(pid, os.WNOHANG)
        return self._strangers()

    def _strangers(self) -> set[int]:
        return children(os.getpid()) - {child.pid for child in self._by_number.values()}

    def _sample(self) -> None:
        """Kill slots whose tasks are beyond their limits."""
        if time.monotonic() < self._sampled_s + SAMPLE_S:
            return
        for child in self._by_number.values():
            if child.allowed_bytes is not None and not child.exceeded:
                child.exceeded = _exceeded(child, child.allowed_bytes)
                if child.exceeded:
                    _kill_group(child)
        self._sampled_s = time.monotonic()

    def _end_all(self) -> None:
        """End every process; the consumer removes the files."""
        for child in self._by_number.values():
            _kill_group(child)
        for child in list(self._by_number.values()):
            self._reap(child)
        give_up_at = time.monotonic() + SWEEP_LIMIT_S
        while self._kill_strangers() and time.monotonic() < give_up_at:
            time.sleep(SWEEP_S)

    def _notify(self, notice: Notice) -> None:
        self._control.send(encode(notice))


def _exceeded(child: _Child, allowed_bytes: int) -> Exceeded:
    """The limit that the processes of a slot are beyond, or nothing."""
    pids = {child.pid, *descendants(child.pid)}
    if len(pids) > MAX_PROCESSES:
        return "processes"
    on_disk = directory_bytes(child.directory)
    if on_disk is None or memory_bytes(pids, allowed_bytes - on_disk) + on_disk > allowed_bytes:
        return "memory"
    return ""


def _kill_group(child: _Child) -> None:
    """SIGKILL a slot that has not been reaped, and its group."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, signal.SIGKILL)
    kill(child.pid)


def _become_slot(server: int, channel: int, output: int, directory: str, registry: Registry) -> None:
    """Never returns: the fork must not go on with the server's own work."""
    status = 1
    try:
        run_slot(server, socket.socket(fileno=channel), output, directory, registry)
        status = 0
    except BaseException:  # noqa: BLE001 - shown, then the process ends
        sys.excepthook(*sys.exc_info())
    finally:
        os._exit(status)


def main(descriptor: int, consumer: int, directory: str) -> int:
    """Serve over an inherited socket; the exit status is that of the process."""
    signal_when_parent_dies(signal.SIGCONT, consumer)
    adopt_orphans()
    ignore_termination()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with socket.socket(fileno=descriptor) as control:
        try:
            registry = load_registry()
        except PluginError as error:
            control.send(encode(Broken(message=str(error)[: MAX_PACKET_BYTES // 8])))
            return 1
        gc.collect()
        gc.freeze()
        SlotServer(control, registry, directory).serve()
    remove_slot_directory(directory)
    return 0


if __name__ == "__main__":
    raise SystemExit(main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]))
