"""One slot as its consumer sees it: hand over a task, get a result back, whatever happens inside."""

import asyncio
import os
import select
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import msgspec
import structlog

from services.compute.slot_outcome import TaskResult, died, replied
from services.compute.slot_output import OutputTap
from services.compute.slot_protocol import (
    Command,
    Exited,
    FrameError,
    FrameReader,
    KillSlot,
    SlotReady,
    TaskReply,
    TaskRequest,
    WatchSlot,
    pack_frame,
)
from shared.domain.requests import FailureCode
from shared.kafka.poison import ProcessEndsError

__all__ = ["RecyclePolicy", "Slot", "SlotServerError", "SlotStartError", "Task"]

log = structlog.get_logger()

MAX_RESULT_BYTES: Final = 8 * 1024 * 1024
"""More than any operation may return; a reply beyond it is no reply."""

WATCH_AFTER_S: Final = 0.1
"""Tasks that run for longer are held to the limits of all of their processes."""

LIMIT_GRACE_S: Final = 0.04
"""How long after the limit the consumer looks for a slot that the kernel has not killed."""

READING_S: Final = 0.01
"""From that look to the kill: a round of reading, since the event loop may have been stopped till now."""

REPLYING_S: Final = 1.0
"""The same for a reply that has arrived in part, and for the end of file of a channel whose slot is dead."""

DYING_S: Final = 0.5
"""Time for a process whose channel broke to be reported dead, of what it really died of."""

DEATH_TIMEOUT_S: Final = 10.0
"""A process that outlives SIGKILL for so long hangs in the kernel; its task ends without it."""

_ready: Final = msgspec.json.Decoder(SlotReady)
_replies: Final = msgspec.json.Decoder(TaskReply)


class SlotServerError(ProcessEndsError):
    """The process that forks slots is gone or cannot start, and every slot with it."""


class SlotStartError(OSError):
    """A slot did not come up, or was gone before it took its task; another one may do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What a slot is to run. `input` is JSON; `key` names the request in the log."""

    operation: str
    input: bytes
    timeout_ms: int
    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RecyclePolicy:
    """When a slot is replaced although it works: after so many tasks, or above so much resident memory."""

    max_tasks: int = 1_000
    max_rss_bytes: int = 512 * 1024 * 1024


@dataclass(slots=True, kw_only=True)
class _Assignment:
    """A task in the slot's process; `began_s` is by the monotonic clock."""

    number: int
    task: Task
    result: asyncio.Future[TaskResult]
    began_s: float = field(default_factory=time.monotonic)
    stopped_for: FailureCode | None = None
    watched: bool = False
    timer: asyncio.TimerHandle | None = None


class Slot(asyncio.Protocol):
    """A worker process and the lines to it. Runs one task at a time.

    It has `started` when its process says so. A slot that died, was killed or is to be retired has `usable`
    False for ever and must be replaced; `retire_reason` then says why. `died` is resolved when its process,
    and everything that it started, is gone.
    """

    def __init__(self, number: int, policy: RecyclePolicy, send: Callable[[Command], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self.number = number
        self.pid: int | None = None
        self.started: asyncio.Future[None] = self._loop.create_future()
        self.died: asyncio.Future[None] = self._loop.create_future()
        self.usable = True
        self.retire_reason = ""
        self.tasks = 0
        self._policy = policy
        self._send = send
        self._rss_bytes = 0
        self._assignment: _Assignment | None = None
        self._frames = FrameReader(MAX_RESULT_BYTES)
        self._hang_up = select.poll()
        self._closed_s: float | None = None
        self._took_nothing = False
        self._exited: Exited | None = None
        self._violation = ""

    async def connect(self, channel: socket.socket, output: int) -> None:
        """Take over the near ends of the slot's channel and of its output."""
        self._output = OutputTap(output)
        self._hang_up.register(channel, 0)
        try:
            self._transport, _ = await self._loop.create_unix_connection(lambda: self, sock=channel)
        except BaseException:
            self._output.close()
            channel.close()
            raise

    def is_alive(self) -> bool:
        """Whether its process can take a task, as far as the kernel knows at this moment."""
        return self.usable and not self._hang_up.poll(0)

    async def run(self, task: Task) -> TaskResult:
        """Run one task. Faults of the operation are results; cancelling the call kills the task.

        The process is killed with all its descendants when `task.timeout_ms` has passed.

        Raises:
            SlotStartError: the process was gone before it took the task, which has not begun.
            SlotServerError: the slots' server is gone; the task may have run or not.
        """
        if self._assignment is not None:
            raise AssertionError(f"slot {self.number} was handed a task while it was busy")
        if not self.usable:
            raise SlotStartError("the process of the slot was gone before it was handed its task")
        self.tasks += 1
        result: asyncio.Future[TaskResult] = self._loop.create_future()
        self._assignment = assignment = _Assignment(number=self.tasks, task=task, result=result)
        self._output.forget()
        after_s = min(WATCH_AFTER_S, task.timeout_ms / 1000 + LIMIT_GRACE_S)
        assignment.timer = self._loop.call_later(after_s, self._on_timer, assignment)
        request = TaskRequest(number=assignment.number, operation=task.operation, timeout_ms=task.timeout_ms)
        self._transport.write(pack_frame(request, task.input))
        try:
            return await assignment.result
        except asyncio.CancelledError:
            self.kill(FailureCode.CANCELLED)
            raise
        finally:
            self._release(assignment)

    def kill(self, reason: FailureCode) -> None:
        """Kill the process and whatever it started; a task that is running ends with `reason`."""
        if self._assignment is not None and self._assignment.stopped_for is None:
            self._assignment.stopped_for = reason
        self._end(f"killed: {reason.value}")

    def retire(self) -> None:
        """End an idle slot's process."""
        self._end("retired")

    def on_exited(self, notice: Exited) -> None:
        """The process is gone. What it wrote before is read until the end of its channel."""
        self._exited = notice
        self.usable = False
        if notice.left:
            log.error("slot.descendants_left", slot=self.number, pid=self.pid, processes=notice.left)
        if self._closed_s is not None:
            self._finish()
        else:
            self._loop.call_later(REPLYING_S, self._finish)

    def lose(self, error: SlotStartError | SlotServerError) -> None:
        """There is no process, or the server is gone and the kernel has killed it."""
        self._finish(error)

    def data_received(self, data: bytes) -> None:
        """Read frames from the process."""
        try:
            for header, body in self._frames.feed(data):
                self._on_frame(header, body)
        except (FrameError, msgspec.DecodeError) as error:
            self.usable = False
            self._violation = self._violation or f"broke the protocol: {error}"
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """The channel is of no use any more, nor is its process; often it is dying already.

        The kernel reports a reset where the process left bytes unread: it has not taken its task.
        """
        self._closed_s, self._took_nothing, self.usable = (
            time.monotonic(),
            isinstance(exc, ConnectionError),
            False,
        )
        if self._exited is not None:
            self._finish()
        else:
            self._loop.call_later(DYING_S, self._break_off)

    def _on_frame(self, header: bytes, body: bytes) -> None:
        if not self.started.done():
            self._rss_bytes = _ready.decode(header).rss_bytes
            self.started.set_result(None)
            return
        assignment = self._assignment
        if assignment is None or assignment.result.done() or assignment.stopped_for is not None:
            return
        reply = _replies.decode(header)
        if reply.number != assignment.number:
            raise FrameError(f"replied to task {reply.number} instead of {assignment.number}")
        if reply.kind == "not_started":
            error = SlotStartError(f"a slot could not start its task: {reply.message}")
            assignment.result.set_exception(error)
            return
        self._rss_bytes = reply.rss_bytes or self._rss_bytes
        self._recycle(reply)
        assignment.result.set_result(replied(reply, body))

    def _recycle(self, reply: TaskReply) -> None:
        reason = reply.retire_reason
        if not reason and reply.rss_bytes > self._policy.max_rss_bytes:
            reason = f"{reply.rss_bytes} bytes resident"
        if not reason and self.tasks >= self._policy.max_tasks:
            reason = f"{self.tasks} tasks"
        if reason:
            self._spend(reason)

    def _on_timer(self, assignment: _Assignment) -> None:
        """Have the server watch a task that lasts; look at its limit for what the kernel has left alive."""
        left_s = assignment.began_s + assignment.task.timeout_ms / 1000 + LIMIT_GRACE_S - time.monotonic()
        if left_s <= 0:
            assignment.timer = self._loop.call_later(READING_S, self._on_overtime, assignment)
            return
        operation, base_bytes = assignment.task.operation, self._rss_bytes
        assignment.watched = True
        self._send(WatchSlot(self.number, assignment.number, operation, base_bytes))
        assignment.timer = self._loop.call_later(left_s, self._on_timer, assignment)

    def _on_overtime(self, assignment: _Assignment) -> None:
        wait_s = REPLYING_S if self._frames.has_begun else 0
        assignment.timer = self._loop.call_later(wait_s, self._time_out)

    def _time_out(self) -> None:
        """Kill what the kernel has not, but where a closed channel tells of a death of another reason."""
        if self._closed_s is None:
            self.kill(FailureCode.TIMEOUT)

    def _release(self, assignment: _Assignment) -> None:
        if assignment.timer is not None:
            assignment.timer.cancel()
        if assignment.watched and self.usable:
            self._send(WatchSlot(slot=self.number))
        self._assignment = None
        text, dropped = self._output.take()
        if text:
            task = assignment.task
            told = {"request": task.key, "operation": task.operation, "text": text}
            log.info("operation.output", **told, dropped_bytes=dropped)

    def _spend(self, reason: str) -> None:
        self.usable = False
        self.retire_reason = self.retire_reason or reason

    def _break_off(self) -> None:
        if not self.died.done():
            self._violation = self._violation or "closed its channel"
            self._end(self._violation)

    def _end(self, reason: str) -> None:
        self._spend(reason)
        if not self.died.done():
            self._send(KillSlot(self.number))
            self._loop.call_later(DEATH_TIMEOUT_S, self._give_up)

    def _give_up(self) -> None:
        if not self.died.done():
            log.error("slot.unkillable", slot=self.number, pid=self.pid)
            self._finish()

    def _finish(self, error: Exception | None = None) -> None:
        """Let go of the slot and of those who wait for it."""
        if self.died.done():
            return
        self._spend("died")
        self._transport.abort()
        self._output.close()
        self.died.set_result(None)
        if not self.started.done():
            self.started.set_exception(error or SlotStartError(f"a slot died at its start: {self._status()}"))
        assignment = self._assignment
        if assignment is None or assignment.result.done():
            return
        if blameless := error or self._blameless(assignment):
            assignment.result.set_exception(blameless)
            return
        exited, task = self._exited, assignment.task
        result = died(
            exited,
            elapsed_ms=(self._ended_s() - assignment.began_s) * 1000,
            limit_ms=task.timeout_ms,
            stopped_for=assignment.stopped_for,
            violation=self._violation,
        )
        reason = result.failure.message
        log.warning("slot.died", slot=self.number, pid=self.pid, request=task.key, reason=reason)
        assignment.result.set_result(result)

    def _ended_s(self) -> float:
        """The time of death: the server may see it late, and this loop the end of the channel."""
        known = [self._closed_s, None if self._exited is None else self._exited.at_s, time.monotonic()]
        return min(each for each in known if each is not None)

    def _status(self) -> str:
        return (
            "it hangs" if self._exited is None else f"code {os.waitstatus_to_exitcode(self._exited.status)}"
        )

    def _blameless(self, assignment: _Assignment) -> SlotStartError | None:
        """Whether the process died of nothing that the task did."""
        if assignment.stopped_for is FailureCode.CANCELLED:
            return None
        if self._took_nothing:
            return SlotStartError("the process of the slot was gone before it took its task")
        if self._exited is not None and self._exited.exceeded and self._exited.number != assignment.number:
            return SlotStartError("the process of the slot was killed for what its last task took")
        return None
