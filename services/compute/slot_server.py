"""The process that forks slots, buries them, and ends everything when its consumer is gone.

It loads the operations once, has no threads and never runs an operation. It is the only parent of slots, so
it alone signals and reaps them: a process id is never used after it could have passed to another process.
Orphans that an operation leaves come to it, as it is the reaper of its descendants. Nobody but the consumer
holds the far end of the control line, so its end of file is the consumer's death, whatever the reason.

Run as `python -m services.compute.slot_server DESCRIPTOR`.
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

from services.compute.slot_isolation import adopt_orphans, ignore_termination
from services.compute.slot_protocol import (
    MAX_PACKET_BYTES,
    Broken,
    Command,
    Exited,
    KillSlot,
    Notice,
    Ready,
    Started,
    StartFailed,
    StartSlot,
    encode,
)
from services.compute.slot_worker import run_slot
from shared.operations.registry import PluginError, Registry, load_registry

__all__ = ["SlotServer", "main"]

DESCRIPTORS_OF_SLOT: Final = 2
SWEEP_LIMIT_S: Final = 3.0
SWEEP_PAUSE_S: Final = 0.001

_commands: Final[msgspec.json.Decoder[Command]] = msgspec.json.Decoder(Command)


@dataclass(frozen=True, slots=True)
class _Child:
    """A slot: the consumer's number for it, and a descriptor that turns readable when it dies."""

    number: int
    pid: int
    pidfd: int


class SlotServer:
    """Obeys the commands that come over `control` until it is closed."""

    def __init__(self, control: socket.socket, registry: Registry) -> None:
        self._control = control
        self._registry = registry
        self._by_pidfd: dict[int, _Child] = {}
        self._by_number: dict[int, _Child] = {}
        self._poll = select.poll()
        self._poll.register(control, select.POLLIN)

    def serve(self) -> None:
        """Serve until the consumer hangs up; no descendant is alive afterwards."""
        with suppress(BrokenPipeError, ConnectionResetError):
            self._notify(Ready(threads=os.stat("/proc/self/task").st_nlink - 2))
            while self._serve_once():
                pass
        self._end_all()

    def _serve_once(self) -> bool:
        for descriptor, _ in self._poll.poll():
            child = self._by_pidfd.get(descriptor)
            if child is not None:
                self._bury(child)
            elif not self._obey():
                return False
        return True

    def _obey(self) -> bool:
        data, descriptors, _, _ = socket.recv_fds(self._control, MAX_PACKET_BYTES, DESCRIPTORS_OF_SLOT)
        if not data:
            return False
        match _commands.decode(data):
            case StartSlot(slot=number):
                self._start(number, *descriptors)
            case KillSlot(slot=number) if number in self._by_number:
                _kill(self._by_number[number])
        return True

    def _start(self, number: int, channel: int, output: int) -> None:
        server = os.getpid()
        try:
            pid = os.fork()
        except OSError as error:
            self._notify(StartFailed(slot=number, message=str(error)))
        else:
            if pid == 0:
                _become_slot(server, channel, output, self._registry)
            self._adopt(number, pid)
        finally:
            os.close(channel)
            os.close(output)

    def _adopt(self, number: int, pid: int) -> None:
        with suppress(OSError):  # the slot does so itself as well: whoever comes first
            os.setpgid(pid, pid)
        child = _Child(number, pid, os.pidfd_open(pid))
        self._by_pidfd[child.pidfd] = self._by_number[number] = child
        self._poll.register(child.pidfd, select.POLLIN)
        self._notify(Started(slot=number, pid=pid))

    def _bury(self, child: _Child) -> None:
        """Reap a dead slot after the rest of its group: till then, its id cannot pass to another group."""
        _kill(child)
        _, status, usage = os.wait4(child.pid, 0)
        self._poll.unregister(child.pidfd)
        os.close(child.pidfd)
        del self._by_pidfd[child.pidfd], self._by_number[child.number]
        self._sweep()
        self._notify(Exited(slot=child.number, status=status, peak_rss_bytes=usage.ru_maxrss * 1024))

    def _sweep(self) -> None:
        """Kill every child that is no slot: the living descendants of dead ones, in whatever group."""
        slots = {child.pid for child in self._by_number.values()}
        give_up_at = time.monotonic() + SWEEP_LIMIT_S
        while (strangers := _children() - slots) and time.monotonic() < give_up_at:
            for pid in strangers:
                os.kill(pid, signal.SIGKILL)
            reaped = [pid for pid in strangers if os.waitpid(pid, os.WNOHANG)[0]]
            if not reaped:
                time.sleep(SWEEP_PAUSE_S)

    def _end_all(self) -> None:
        children = list(self._by_number.values())
        for child in children:
            _kill(child)
        for child in children:
            with suppress(OSError):  # nobody is left to notify
                self._bury(child)

    def _notify(self, notice: Notice) -> None:
        self._control.send(encode(notice))


def _kill(child: _Child) -> None:
    """SIGKILL a slot that has not been reaped, and its group."""
    with suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    os.kill(child.pid, signal.SIGKILL)


def _children() -> set[int]:
    """Direct children of this process, which has one thread; none where the kernel keeps no such list."""
    with suppress(OSError), open(f"/proc/self/task/{os.getpid()}/children") as file:
        return {int(pid) for pid in file.read().split()}
    return set()


def _become_slot(server: int, channel: int, output: int, registry: Registry) -> None:
    """Never returns: the fork must not go on with the server's own work."""
    status = 1
    try:
        run_slot(server, socket.socket(fileno=channel), output, registry)
        status = 0
    except BaseException:  # noqa: BLE001 - shown, then the process ends
        sys.excepthook(*sys.exc_info())
    finally:
        os._exit(status)


def main(descriptor: int) -> int:
    """Serve over an inherited socket; the exit status is that of the process."""
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
        SlotServer(control, registry).serve()
    return 0


if __name__ == "__main__":
    raise SystemExit(main(int(sys.argv[1])))
