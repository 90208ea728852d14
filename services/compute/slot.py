"""One slot as its consumer sees it: hand over a task, get an outcome back, whatever happens inside."""

import asyncio
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import msgspec
import structlog

from services.compute.slot_outcome import Outcome, answered, died
from services.compute.slot_output import OutputTap
from services.compute.slot_protocol import Answer, Exited, FrameError, FrameReader, Order, pack_frame
from shared.domain.requests import FailureCode
from shared.kafka.poison import ProcessEndsError

__all__ = ["Slot", "SlotServerError", "SlotStartError", "SlotWear", "Task"]

log = structlog.get_logger()

MAX_RESULT_BYTES: Final = 8 * 1024 * 1024
"""More than any operation may return; an answer beyond it is no answer."""

DYING_S: Final = 0.05
"""Time for a process whose channel broke to be reported dead, of what it really died of."""

DEATH_TIMEOUT_S: Final = 5.0
"""A process that outlives SIGKILL for so long hangs in the kernel; its task is answered without it."""

_answers: Final = msgspec.json.Decoder(Answer)


class SlotServerError(ProcessEndsError):
    """The process that forks slots is gone or cannot start, and every slot with it."""


class SlotStartError(OSError):
    """The system has no room for another slot at the moment."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What a slot is to run. `input` is JSON; `key` names the request in the log."""

    operation: str
    input: bytes
    timeout_ms: int
    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotWear:
    """When a slot is replaced although it works: after so many runs, or above so much resident memory."""

    max_runs: int = 1_000
    max_rss_bytes: int = 512 * 1024 * 1024


@dataclass(slots=True, kw_only=True)
class _Run:
    """A task in the slot's process."""

    number: int
    task: Task
    began_s: float
    outcome: asyncio.Future[Outcome]
    stopped_for: FailureCode | None = None


class Slot:
    """A worker process and the lines to it. Runs one task at a time.

    A slot that died, was killed or is worn out has `usable` False for ever and must be replaced; `spent` then
    says why. `died` is resolved when its process, and everything that it started, is gone.
    """

    def __init__(self, number: int, wear: SlotWear, send_kill: Callable[[int], None]) -> None:
        loop = asyncio.get_running_loop()
        self.number = number
        self.pid: int | None = None
        self.started: asyncio.Future[int] = loop.create_future()
        self.died: asyncio.Future[None] = loop.create_future()
        self.usable = True
        self.spent = ""
        self._wear = wear
        self._send_kill = send_kill
        self._runs = 0
        self._run: _Run | None = None
        self._violation = ""

    async def connect(self, channel: socket.socket, output: int) -> None:
        """Take over the near ends of the slot's channel and of its output."""
        self._output = OutputTap(output)
        loop = asyncio.get_running_loop()
        try:
            self._transport, _ = await loop.create_unix_connection(
                lambda: _Channel(self._on_answer, self._on_violation), sock=channel
            )
        except BaseException:
            self._output.close()
            channel.close()
            raise

    async def run(self, task: Task) -> Outcome:
        """Run one task. Faults of the operation are outcomes; cancelling the call kills the task.

        The process is killed with all its descendants when `task.timeout_ms` has passed.

        Raises:
            SlotServerError: the slots' server is gone; the task may have run or not.
        """
        if not self.usable or self._run is not None:
            raise AssertionError(f"slot {self.number} was handed a task while it was spent or busy")
        loop = asyncio.get_running_loop()
        self._runs += 1
        self._run = run = _Run(
            number=self._runs, task=task, began_s=loop.time(), outcome=loop.create_future()
        )
        self._drop_stale_output()
        limit = loop.call_later(task.timeout_ms / 1000, self.kill, FailureCode.TIMEOUT)
        order = Order(number=run.number, operation=task.operation, timeout_ms=task.timeout_ms)
        self._transport.write(pack_frame(order, task.input))
        try:
            return await run.outcome
        except asyncio.CancelledError:
            self.kill(FailureCode.CANCELLED)
            raise
        finally:
            limit.cancel()
            self._run = None
            self._log_output(task)

    def kill(self, reason: FailureCode) -> None:
        """Kill the process and whatever it started; a task that is running ends with `reason`."""
        if self._run is not None and self._run.stopped_for is None:
            self._run.stopped_for = reason
        self._end(f"killed: {reason.value}")

    def retire(self) -> None:
        """End an idle slot's process."""
        self._end("retired")

    def on_started(self, pid: int) -> None:
        """The server has forked the process."""
        self.pid = pid
        if not self.started.done():
            self.started.set_result(pid)

    def on_start_failed(self, error: SlotStartError) -> None:
        """There is no process."""
        self._close("never started")
        if not self.started.done():
            self.started.set_exception(error)

    def on_exited(self, notice: Exited) -> None:
        """The process is gone."""
        self._close("died")
        if self._run is not None:
            self._settle(notice.status, notice.peak_rss_bytes)

    def on_server_lost(self, error: SlotServerError) -> None:
        """The server is gone, and the kernel has killed the process."""
        self._close("lost its server")
        for waiter in (self.started, self._run.outcome if self._run else None):
            if waiter is not None and not waiter.done():
                waiter.set_exception(error)

    def _end(self, why: str) -> None:
        if self.died.done():
            return
        self._spend(why)
        self._send_kill(self.number)
        asyncio.get_running_loop().call_later(DEATH_TIMEOUT_S, self._give_up)

    def _give_up(self) -> None:
        if not self.died.done():
            log.error("slot.unkillable", slot=self.number, pid=self.pid)
            self._close("would not die")
            if self._run is not None:
                self._settle(None, None)

    def _spend(self, why: str) -> None:
        self.usable = False
        self.spent = self.spent or why

    def _close(self, why: str) -> None:
        self._spend(why)
        self._transport.abort()
        self._output.close()
        if not self.died.done():
            self.died.set_result(None)

    def _settle(self, status: int | None, peak_rss_bytes: int | None) -> None:
        run = self._run
        if run is None or run.outcome.done():
            return
        outcome = died(
            status,
            stopped_for=run.stopped_for,
            violation=self._violation,
            limit_ms=run.task.timeout_ms,
            elapsed_ms=(asyncio.get_running_loop().time() - run.began_s) * 1000,
            peak_rss_bytes=peak_rss_bytes,
        )
        log.warning(
            "slot.died", slot=self.number, pid=self.pid, request=run.task.key, reason=outcome.failure.message
        )
        run.outcome.set_result(outcome)

    def _on_answer(self, header: bytes, body: bytes) -> None:
        run = self._run
        if run is None or run.outcome.done() or run.stopped_for is not None:
            return
        answer = _answers.decode(header)
        if answer.number != run.number:
            raise FrameError(f"answered order {answer.number} instead of {run.number}")
        self._wear_out(answer)
        run.outcome.set_result(answered(answer, body))

    def _wear_out(self, answer: Answer) -> None:
        if answer.worn:
            self._spend(answer.worn)
        elif answer.rss_bytes > self._wear.max_rss_bytes:
            self._spend(f"{answer.rss_bytes} bytes resident")
        elif self._runs >= self._wear.max_runs:
            self._spend(f"{self._runs} runs")

    def _on_violation(self, words: str) -> None:
        """The channel is of no use any more, nor is its process; often it is dying already."""
        if not self.died.done():
            self.usable = False
            asyncio.get_running_loop().call_later(DYING_S, self._break_off, words)

    def _break_off(self, words: str) -> None:
        if not self.died.done():
            self._violation = self._violation or words
            self._end(words)

    def _drop_stale_output(self) -> None:
        """What came between two tasks belongs to none."""
        self._output.take()

    def _log_output(self, task: Task) -> None:
        text, dropped = self._output.take()
        if text:
            log.info(
                "operation.output",
                request=task.key,
                operation=task.operation,
                text=text,
                dropped_bytes=dropped,
            )


class _Channel(asyncio.Protocol):
    """The consumer's end of a slot's channel."""

    def __init__(
        self, on_answer: Callable[[bytes, bytes], None], on_violation: Callable[[str], None]
    ) -> None:
        self._on_answer = on_answer
        self._on_violation = on_violation
        self._frames = FrameReader(MAX_RESULT_BYTES)

    def data_received(self, data: bytes) -> None:
        try:
            for header, body in self._frames.feed(data):
                self._on_answer(header, body)
        except (FrameError, msgspec.DecodeError) as error:
            self._on_violation(f"broke the protocol: {error}")

    def connection_lost(self, exc: Exception | None) -> None:
        self._on_violation("closed its channel")
