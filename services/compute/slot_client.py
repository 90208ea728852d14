"""The consumer's side of the slot server: starts it, asks for slots, hears of their deaths."""

import asyncio
import itertools
import os
import signal
import socket
import subprocess
import sys
from contextlib import ExitStack, suppress
from typing import Final

import msgspec
import structlog

from services.compute.slot import RecyclePolicy, Slot, SlotServerError, SlotStartError
from services.compute.slot_directory import SlotDirectory, remove_abandoned
from services.compute.slot_isolation import adopt_orphans
from services.compute.slot_protocol import (
    MAX_PACKET_BYTES,
    Broken,
    Command,
    Exited,
    Forked,
    Notice,
    Ping,
    ServerReady,
    StartFailed,
    StartSlot,
    encode,
)
from services.compute.slot_tree import kill_descendants

__all__ = ["SlotServerClient"]

log = structlog.get_logger()

SERVER_START_TIMEOUT_S: Final = 60.0
SLOT_START_TIMEOUT_S: Final = 10.0
PING_S: Final = 1.0
SILENT_PINGS: Final = 5
"""Pings in a row without any notice after which the server is given up. Each is counted by a timer of its
own, so a consumer that was stopped meanwhile counts one."""

KILL_S: Final = 1.0
SECRETS_PREFIX: Final = "CONSUMA_"
SERVER_MODULE: Final = "services.compute.slot_server"

_notices: Final[msgspec.json.Decoder[Notice]] = msgspec.json.Decoder(Notice)


class SlotServerClient:
    """A slot server and the slots that it has forked.

    `lost` ends when the server does: with `SlotServerError` unless it was stopped.
    """

    def __init__(self, policy: RecyclePolicy) -> None:
        self._loop = asyncio.get_running_loop()
        self.lost: asyncio.Future[None] = self._loop.create_future()
        self._policy = policy
        self._numbers = itertools.count(1)
        self._slots: dict[int, Slot] = {}
        self._ready: asyncio.Future[None] = self._loop.create_future()
        self._process: subprocess.Popen[bytes] | None = None
        self._directory = SlotDirectory()
        self._broken = ""
        self._stopping = False
        self._silent_pings = 0
        self._ending: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Start the server and wait until it has loaded the operations.

        The thread that calls this must live as long as the server. Orphans of a dead server come to this
        process, which can kill them then.

        Raises:
            SlotServerError: it cannot; the message says what to repair.
        """
        adopt_orphans()
        await asyncio.to_thread(remove_abandoned)
        self._control, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._control.setblocking(False)
        with far:
            self._process = _spawn(far, self._directory.path)
        self._loop.add_reader(self._control.fileno(), self._on_readable)
        try:
            async with asyncio.timeout(SERVER_START_TIMEOUT_S):
                await self._ready
        except TimeoutError:
            raise SlotServerError(
                f"the slot server has not loaded the operations within {SERVER_START_TIMEOUT_S:.0f} s; "
                "an installed plugin may hang in its import"
            ) from None
        self._ping()

    async def start_slot(self) -> Slot:
        """Fork one more slot and wait until it says that it is ready.

        Raises:
            SlotStartError: the system has no room for it now, or it died while it isolated itself.
            SlotServerError: there is no server any more.
        """
        if self.lost.done():
            raise SlotServerError("the slot server is gone")
        slot = Slot(next(self._numbers), self._policy, self._send)
        with ExitStack() as far_ends:
            descriptors = await _connect(slot, far_ends)
            self._slots[slot.number] = slot
            self._send(StartSlot(slot.number), descriptors)
        try:
            async with asyncio.timeout(SLOT_START_TIMEOUT_S):
                await slot.started
        except TimeoutError:
            slot.retire()
            raise SlotStartError(f"a slot was not ready within {SLOT_START_TIMEOUT_S:.0f} s") from None
        except asyncio.CancelledError:
            slot.retire()
            raise
        return slot

    async def stop(self, timeout_s: float) -> None:
        """Kill every slot and end the server. Tasks that run end with `SlotServerError`."""
        self._stopping = True
        if self._process is not None:
            self._hang_up(SlotServerError("the slots were stopped"))
            try:
                await asyncio.to_thread(self._process.wait, timeout_s)
            except subprocess.TimeoutExpired:
                log.error("slot_server.killed", pid=self._process.pid)  # noqa: TRY400 - it tells nothing
                await asyncio.to_thread(_kill_server, self._process)
        if self._ending is not None:
            await self._ending
        await asyncio.to_thread(self._directory.remove)

    def _send(self, command: Command, descriptors: list[int] | None = None) -> None:
        if self.lost.done() or self._ending is not None:
            return
        try:
            socket.send_fds(self._control, [encode(command)], descriptors or [])
        except BlockingIOError:
            self._give_up("does not take commands any more")
        except (BrokenPipeError, ConnectionResetError):
            pass  # its end of file follows

    def _ping(self) -> None:
        if self.lost.done() or self._ending is not None:
            return
        if self._silent_pings >= SILENT_PINGS:
            self._give_up(f"has not answered for {SILENT_PINGS * PING_S:.0f} s")
            return
        self._silent_pings += 1
        self._send(Ping())
        self._loop.call_later(PING_S, self._ping)

    def _give_up(self, why: str) -> None:
        """End a server that hangs; the event loop, which has other requests' heartbeats to keep, goes on."""
        self._broken = f"the slot server {why}"
        self._ending = asyncio.create_task(self._end_server(self._broken), name="slot-server-end")

    async def _end_server(self, why: str) -> None:
        """End it, and first what runs below it, while the kernel still says what that is."""
        if self._process is not None:
            await asyncio.to_thread(_kill_server, self._process)
        self._hang_up(SlotServerError(why))

    def _on_readable(self) -> None:
        with suppress(BlockingIOError):
            while packet := self._receive():
                self._silent_pings = 0
                self._on_notice(_notices.decode(packet))
            why = self._broken or "the slot server died, and every slot with it"
            self._hang_up(SlotServerError(why))

    def _receive(self) -> bytes:
        """A packet, or nothing at the end; it is told as a reset where the server left commands unread."""
        try:
            return self._control.recv(MAX_PACKET_BYTES)
        except ConnectionResetError:
            return b""

    def _on_notice(self, notice: Notice) -> None:
        match notice:
            case ServerReady(threads=threads):
                if threads > 1:
                    log.warning("slot_server.threads", threads=threads)
                if not self._ready.done():
                    self._ready.set_result(None)
            case Broken(message=message):
                self._broken = message
            case Forked(slot=number, pid=pid):
                self._slots[number].pid = pid
            case StartFailed(slot=number, message=message):
                self._slots.pop(number).lose(SlotStartError(message))
            case Exited(slot=number):
                self._slots.pop(number).on_exited(notice)

    def _hang_up(self, error: SlotServerError) -> None:
        """Let go of the server, which ends at the latest now."""
        if self.lost.done():
            return
        self._loop.remove_reader(self._control.fileno())
        self._control.close()
        for slot in self._slots.values():
            slot.lose(error)
        self._slots.clear()
        if self._stopping:
            self.lost.set_result(None)
        elif not self._ready.done():
            self._ready.set_exception(error)
            self.lost.set_result(None)
        else:
            log.error("slot_server.lost", error=str(error))
            self.lost.set_exception(error)


async def _connect(slot: Slot, far_ends: ExitStack) -> list[int]:
    """Give `slot` its ends of a new channel and a new output pipe; the far ones are closed with the stack."""
    channel, far = socket.socketpair()
    far_ends.enter_context(far)
    try:
        output, far_output = os.pipe()
    except OSError:
        channel.close()
        raise
    far_ends.callback(os.close, far_output)
    await slot.connect(channel, output)
    return [far.fileno(), far_output]


def _spawn(control: socket.socket, directory: str) -> subprocess.Popen[bytes]:
    """The server, in a session of its own: signals to the consumer's group leave it to clean up."""
    descriptor = control.fileno()
    return subprocess.Popen(  # noqa: S603 - our own interpreter and module
        [sys.executable, "-m", SERVER_MODULE, str(descriptor), str(os.getpid()), directory],
        env=_environment(),
        stdin=subprocess.DEVNULL,
        pass_fds=[descriptor],
        start_new_session=True,
    )


def _kill_server(server: subprocess.Popen[bytes]) -> None:
    """End a server that hangs, and first all below it; blocks for as long as that takes."""
    server.send_signal(signal.SIGSTOP)
    kill_descendants(server.pid, KILL_S)
    server.kill()
    try:
        server.wait(KILL_S)
    except subprocess.TimeoutExpired:
        log.error("slot_server.unkillable", pid=server.pid)  # noqa: TRY400 - it tells nothing


def _environment() -> dict[str, str]:
    """The consumer's environment without its secrets; one hash seed, so that a repeat gives equal results."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(SECRETS_PREFIX)}
    return kept | {"PYTHONHASHSEED": "0", "TZ": "UTC"}
