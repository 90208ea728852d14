"""The consumer's side of the slot server: starts it, asks for slots, hears of their deaths."""

import asyncio
import itertools
import os
import socket
import subprocess
import sys
from contextlib import ExitStack, suppress
from typing import Final

import msgspec
import structlog

from services.compute.slot import Slot, SlotServerError, SlotStartError, SlotWear
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

__all__ = ["SlotHost"]

log = structlog.get_logger()

SERVER_START_TIMEOUT_S: Final = 60.0
SLOT_START_TIMEOUT_S: Final = 10.0
SECRETS_PREFIX: Final = "CONSUMA_"
SERVER_MODULE: Final = "services.compute.slot_server"

_notices: Final[msgspec.json.Decoder[Notice]] = msgspec.json.Decoder(Notice)


class SlotHost:
    """A slot server and the slots that it has forked.

    `lost` ends when the server does: with `SlotServerError` unless it was stopped.
    """

    def __init__(self, wear: SlotWear) -> None:
        loop = asyncio.get_running_loop()
        self.lost: asyncio.Future[None] = loop.create_future()
        self._loop = loop
        self._wear = wear
        self._numbers = itertools.count(1)
        self._slots: dict[int, Slot] = {}
        self._ready: asyncio.Future[None] = loop.create_future()
        self._process: subprocess.Popen[bytes] | None = None
        self._broken = ""
        self._stopping = False

    async def start(self) -> None:
        """Start the server and wait until it has loaded the operations.

        Raises:
            SlotServerError: it cannot; the message says what to repair.
        """
        self._control, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._control.setblocking(False)
        with far:
            self._process = await asyncio.to_thread(_spawn, far)
        self._loop.add_reader(self._control.fileno(), self._on_readable)
        try:
            async with asyncio.timeout(SERVER_START_TIMEOUT_S):
                await self._ready
        except TimeoutError:
            raise SlotServerError(
                f"the slot server has not loaded the operations within {SERVER_START_TIMEOUT_S:.0f} s; "
                "an installed plugin may hang in its import"
            ) from None

    async def start_slot(self) -> Slot:
        """Fork one more slot.

        Raises:
            SlotStartError: the system has no room for it now.
            SlotServerError: there is no server any more.
        """
        if self.lost.done():
            raise SlotServerError("the slot server is gone")
        slot = Slot(next(self._numbers), self._wear, self._send_kill)
        with ExitStack() as far_ends:
            descriptors = await _connect(slot, far_ends)
            self._slots[slot.number] = slot
            self._send(StartSlot(slot.number), descriptors)
        try:
            async with asyncio.timeout(SLOT_START_TIMEOUT_S):
                await slot.started
        except TimeoutError:
            slot.retire()
            raise SlotStartError("the slot server has not answered in time") from None
        except asyncio.CancelledError:
            slot.retire()
            raise
        return slot

    async def stop(self, timeout_s: float) -> None:
        """Kill every slot and end the server. Tasks that run end with `SlotServerError`."""
        self._stopping = True
        if self._process is None:
            return
        self._hang_up(SlotServerError("the slots were stopped"))
        try:
            await asyncio.to_thread(self._process.wait, timeout_s)
        except subprocess.TimeoutExpired:
            log.error(  # noqa: TRY400 - the exception tells nothing
                "slot_server.killed", pid=self._process.pid
            )
            self._process.kill()
            await asyncio.to_thread(self._process.wait)

    def _send_kill(self, number: int) -> None:
        with suppress(BrokenPipeError, ConnectionResetError):  # its end of file follows
            self._send(KillSlot(number), [])

    def _send(self, command: Command, descriptors: list[int]) -> None:
        if self.lost.done():
            return
        try:
            socket.send_fds(self._control, [encode(command)], descriptors)
        except BlockingIOError:
            self._hang_up(SlotServerError("the slot server does not take commands any more"))

    def _on_readable(self) -> None:
        with suppress(BlockingIOError):
            while packet := self._control.recv(MAX_PACKET_BYTES):
                self._on_notice(_notices.decode(packet))
            why = self._broken or "the slot server died, and every slot with it"
            self._hang_up(SlotServerError(why))

    def _on_notice(self, notice: Notice) -> None:
        match notice:
            case Ready(threads=threads):
                if threads > 1:
                    log.warning("slot_server.threads", threads=threads)
                if not self._ready.done():
                    self._ready.set_result(None)
            case Broken(message=message):
                self._broken = message
            case Started(slot=number, pid=pid):
                self._slots[number].on_started(pid)
            case StartFailed(slot=number, message=message):
                self._slots.pop(number).on_start_failed(SlotStartError(message))
            case Exited(slot=number):
                self._slots.pop(number).on_exited(notice)

    def _hang_up(self, error: SlotServerError) -> None:
        """Let go of the server, which ends at the latest now."""
        if self.lost.done():
            return
        self._loop.remove_reader(self._control.fileno())
        self._control.close()
        for slot in self._slots.values():
            slot.on_server_lost(error)
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


def _spawn(control: socket.socket) -> subprocess.Popen[bytes]:
    """The server, in a session of its own: signals to the consumer's group leave it to clean up."""
    descriptor = control.fileno()
    return subprocess.Popen(  # noqa: S603 - our own interpreter and module
        [sys.executable, "-m", SERVER_MODULE, str(descriptor)],
        env=_environment(),
        stdin=subprocess.DEVNULL,
        pass_fds=[descriptor],
        start_new_session=True,
    )


def _environment() -> dict[str, str]:
    """The consumer's environment without its secrets; one hash seed, so that a repeat gives equal results."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(SECRETS_PREFIX)}
    return kept | {"PYTHONHASHSEED": "0", "TZ": "UTC"}
