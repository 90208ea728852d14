"""A process that decodes what would hold an event loop up, and the loop's side of it.

The loop sends the bytes to be decoded and hears what is in them. One question is under way at a time, so that
the process's death, or its silence, is the fault of that question and of no other. A process that died or
fell silent is replaced.
"""

import asyncio
import ctypes
import gc
import os
import signal
import socket
import struct
import sys
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import partial
from typing import Final

import structlog

__all__ = ["DecoderBusyError", "DecoderLostError", "DecoderProcess", "DecoderStartError", "serve"]

log = structlog.get_logger()

LENGTHS: Final = struct.Struct(">II")
"""Bytes of a question's two parts; of an answer, with nothing as the second."""

READY: Final = LENGTHS.pack(0, 0)
"""The first that a process sends: it has loaded all that it needs."""

START_WITHIN_S: Final = 60.0
END_WITHIN_S: Final = 1.0
"""A killed process that the kernel holds for longer is not waited for: others take its place."""

MOST_ANSWER_BYTES: Final = 16 * 1024 * 1024
"""More than any answer has: refusals name what was sent."""

NICENESS: Final = 5
COLLECTOR_THRESHOLDS: Final = (1_000_000, 10, 10)
"""Values of JSON make no cycles, and come by the hundred thousand."""

PR_SET_PDEATHSIG: Final = 1

Answer = Callable[[bytes, bytes], bytes]


class DecoderBusyError(Exception):
    """As many questions wait as may."""


class DecoderStartError(Exception):
    """The system has no room for the process; no question was asked."""


class DecoderLostError(Exception):
    """The process died over a question, or did not answer it in time."""


@dataclass(frozen=True, slots=True)
class _Question:
    about: bytes
    body: bytes
    answer: asyncio.Future[bytes]


@dataclass(frozen=True, slots=True)
class _Running:
    process: asyncio.subprocess.Process
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter


class DecoderProcess:
    """Asks `python -m <module>`, which calls `serve`; started with the first question.

    Args:
        module: what the process runs.
        answer_within_s: longest time for one answer.
        most_waiting: how many questions may wait for their turn.
        executable: what runs the module.
    """

    def __init__(
        self, module: str, *, answer_within_s: float, most_waiting: int, executable: str = sys.executable
    ) -> None:
        self._module = module
        self._executable = executable
        self._answer_within_s = answer_within_s
        self._questions: asyncio.Queue[_Question] = asyncio.Queue(most_waiting)
        self._running: _Running | None = None
        self._asking: asyncio.Task[None] | None = None
        self._ending: set[asyncio.Task[int]] = set()

    @property
    def pid(self) -> int | None:
        """Of the process, while there is one."""
        return self._running.process.pid if self._running else None

    @property
    def waiting(self) -> int:
        """How many questions wait for their turn."""
        return self._questions.qsize()

    async def ask(self, about: bytes, body: bytes) -> bytes:
        """The answer to a question of two parts.

        Raises:
            DecoderBusyError: too many wait.
            DecoderStartError: there is no process, and none can be started now.
            DecoderLostError: this question has killed or silenced the process, or something else has.
        """
        question = _Question(about, body, asyncio.get_running_loop().create_future())
        try:
            self._questions.put_nowait(question)
        except asyncio.QueueFull:
            raise DecoderBusyError(f"{self.waiting} bodies wait for the decoder process") from None
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(self._ask_all(), name=f"{self._module} questions")
        return await question.answer

    async def close(self) -> None:
        """End the process; who still waits is refused."""
        if self._asking is not None:
            self._asking.cancel()
            await asyncio.wait([self._asking])
            self._asking = None
        while not self._questions.empty():
            _refuse(self._questions.get_nowait())

    async def _ask_all(self) -> None:
        try:
            while True:
                question = await self._questions.get()
                if not question.answer.done():
                    await self._settle(question)
        finally:
            await self._end()

    async def _settle(self, question: _Question) -> None:
        try:
            answer = await self._exchange(question)
        except asyncio.CancelledError:
            _refuse(question)
            raise
        except Exception as error:  # noqa: BLE001 - whoever asked hears of it
            await self._end()
            if not question.answer.done():
                question.answer.set_exception(error)
        else:
            if not question.answer.done():
                question.answer.set_result(answer)

    async def _exchange(self, question: _Question) -> bytes:
        running = self._running
        if running is None or running.process.returncode is not None:
            await self._end()
            running = self._running = await self._start()
            await self._until_ready(running)
        try:
            async with asyncio.timeout(self._answer_within_s):
                return await _converse(running, question)
        except (TimeoutError, EOFError, OSError) as error:
            log.warning("decoder.lost", module=self._module, pid=running.process.pid, error=repr(error))
            what = await self._fate(running, error)
            raise DecoderLostError(f"the decoder process {what} over {len(question.body)} bytes") from error

    async def _fate(self, running: _Running, error: Exception) -> str:
        if isinstance(error, TimeoutError):
            return f"was silent for {self._answer_within_s:g} s"
        with suppress(TimeoutError):
            async with asyncio.timeout(END_WITHIN_S):
                await running.process.wait()
        spent = running.process.returncode == -signal.SIGPROF
        return "has taken more of the processor than it may" if spent else "died"

    async def _start(self) -> _Running:
        near, far = socket.socketpair()
        with ExitStack() as undo:
            undo.callback(near.close)
            try:
                process = await self._spawn(far)
                undo.callback(_kill, process)
                reader, writer = await asyncio.open_connection(sock=near)
            except OSError as error:
                raise DecoderStartError(f"cannot start a decoder process: {error}") from error
            undo.pop_all()
        return _Running(process, reader, writer)

    async def _spawn(self, far: socket.socket) -> asyncio.subprocess.Process:
        with far:
            return await asyncio.create_subprocess_exec(
                self._executable,
                "-m",
                self._module,
                str(far.fileno()),
                pass_fds=[far.fileno()],
                stdin=asyncio.subprocess.DEVNULL,
            )

    async def _until_ready(self, running: _Running) -> None:
        try:
            async with asyncio.timeout(START_WITHIN_S):
                await running.reader.readexactly(LENGTHS.size)
        except (TimeoutError, EOFError, OSError) as error:
            raise DecoderStartError(
                f"the decoder process {self._module} did not start; its output tells why"
            ) from error

    async def _end(self) -> None:
        running, self._running = self._running, None
        if running is None:
            return
        running.writer.close()
        _kill(running.process)
        ending = asyncio.create_task(running.process.wait(), name=f"end of {self._module}")
        self._ending.add(ending)
        ending.add_done_callback(self._ending.discard)
        await asyncio.wait([ending], timeout=END_WITHIN_S)
        if not ending.done():
            log.error("decoder.stuck", module=self._module, pid=running.process.pid)
            ending.add_done_callback(partial(_log_end, running.process.pid))


def _kill(process: asyncio.subprocess.Process) -> None:
    with suppress(ProcessLookupError):
        process.kill()


def _log_end(pid: int, ending: asyncio.Task[int]) -> None:
    if ending.cancelled():
        log.warning("decoder.left", pid=pid)
    else:
        log.info("decoder.ended_late", pid=pid, error=repr(ending.exception()))


def _refuse(question: _Question) -> None:
    if not question.answer.done():
        question.answer.set_exception(DecoderStartError("the service is stopping"))


async def _converse(running: _Running, question: _Question) -> bytes:
    running.writer.write(LENGTHS.pack(len(question.about), len(question.body)) + question.about)
    running.writer.write(question.body)
    await running.writer.drain()
    length, _ = LENGTHS.unpack(await running.reader.readexactly(LENGTHS.size))
    if length > MOST_ANSWER_BYTES:
        raise OSError(f"an answer of {length} bytes")
    return await running.reader.readexactly(length)


def serve(answer: Answer, *, cpu_limit_s: float = 0.0) -> None:
    """Answer questions until the other side is gone; what a decoder process does.

    An answer that takes `cpu_limit_s` of the processor, if that is not 0, ends the process: the kernel does,
    whatever code runs. A busy machine makes no honest question take more.

    It ends with its parent, however that ends, and leaves the processor to event loops. Signals to the group
    are the parent's business.
    """
    parent, channel = os.getppid(), socket.socket(fileno=int(sys.argv[1]))
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    os.nice(NICENESS)
    gc.freeze()
    gc.set_threshold(*COLLECTOR_THRESHOLDS)
    with channel, channel.makefile("rb") as questions:
        channel.sendall(READY)
        while os.getppid() == parent and len(lengths := questions.read(LENGTHS.size)) == LENGTHS.size:
            about_bytes, body_bytes = LENGTHS.unpack(lengths)
            about, body = questions.read(about_bytes), questions.read(body_bytes)
            if len(body) < body_bytes:
                return
            signal.setitimer(signal.ITIMER_PROF, cpu_limit_s)
            found = answer(about, body)
            signal.setitimer(signal.ITIMER_PROF, 0)
            channel.sendall(LENGTHS.pack(len(found), 0) + found)
