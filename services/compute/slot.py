"""A slot, from the side of its consumer: hands a task over and gets a result back in every case."""

import asyncio
import fcntl
import select
import socket
import termios
import time
from collections.abc import Callable
from typing import Final

import msgspec
import structlog

from services.compute.slot_assignment import Assignment, RecyclePolicy, SlotStartError, Task
from services.compute.slot_ending import Ending
from services.compute.slot_outcome import TaskResult, replied
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
    pack_task,
)
from shared.domain.requests import FailureCode
from shared.kafka.quarantine import ProcessEndsError

__all__ = ["RecyclePolicy", "Slot", "SlotServerError", "SlotStartError", "Task"]

log = structlog.get_logger()

MAX_RESULT_BYTES: Final = 8 * 1024 * 1024
"""More than any operation may return; a reply beyond it is no reply."""

READING_S: Final = 0.01
"""From the look at the limit to the kill: a round of reading, since the event loop may have been stopped."""

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
        self._assignment: Assignment | None = None
        self._frames = FrameReader(MAX_RESULT_BYTES)
        self._hang_up = select.poll()
        self._ending = Ending()

    async def connect(self, channel: socket.socket, output: int) -> None:
        """Take over the near ends of the slot's channel and of its output."""
        self._output = OutputTap(output)
        self._hang_up.register(channel, 0)
        self._channel = channel
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
            SlotStartError: the process was gone or stopped before the task began.
            SlotServerError: the slots' server is gone; the task may have run or not.
        """
        if self._assignment is not None:
            raise AssertionError(f"slot {self.number} was handed a task while it was busy")
        if not self.usable:
            raise SlotStartError("the process of the slot was gone before it was handed its task")
        self.tasks += 1
        result: asyncio.Future[TaskResult] = self._loop.create_future()
        self._assignment = assignment = Assignment(number=self.tasks, task=task, result=result)
        self._output.forget()
        assignment.timer = self._loop.call_later(assignment.first_look_s(), self._on_timer, assignment)
        request = TaskRequest(number=assignment.number, operation=task.operation, timeout_ms=task.timeout_ms)
        self._transport.write(pack_task(request, task.input))
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
        self._ending.exited = notice
        self.usable = False
        if notice.left:
            log.error("slot.descendants_left", slot=self.number, pid=self.pid, processes=notice.left)
        if self._ending.closed_s is not None:
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
            self._ending.violation = self._ending.violation or f"broke the protocol: {error}"
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """The channel is of no use any more, nor is its process; often it is dying already.

        The kernel reports a reset where the process left bytes unread: it has not begun its task.
        """
        self._ending.closed_s, self._ending.left_unread = time.monotonic(), isinstance(exc, ConnectionError)
        self.usable = False
        if self._ending.exited is not None:
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
        if reason := reply.retire_reason or self._policy.reason(self.tasks, reply.rss_bytes):
            self._spend(reason)
        assignment.result.set_result(replied(reply, body))

    def _on_timer(self, assignment: Assignment) -> None:
        """Have the server watch a task that lasts; look at its limit for what the kernel has left alive."""
        assignment.note(waiting=self._has_unread())
        left_s = assignment.next_look_s()
        if left_s <= 0:
            assignment.timer = self._loop.call_later(READING_S, self._on_overtime, assignment)
            return
        if not assignment.watched:
            assignment.watched = True
            watch = WatchSlot(self.number, assignment.number, assignment.task.operation, self._rss_bytes)
            self._send(watch)
        assignment.timer = self._loop.call_later(left_s, self._on_timer, assignment)

    def _on_overtime(self, assignment: Assignment) -> None:
        assignment.note(waiting=self._has_unread())
        if assignment.next_look_s() > 0:  # it has just begun, after a stop of this machine or of the slot
            self._on_timer(assignment)
            return
        wait_s = REPLYING_S if self._frames.has_begun else 0
        assignment.timer = self._loop.call_later(wait_s, self._time_out, assignment)

    def _time_out(self, assignment: Assignment) -> None:
        """Kill what the kernel has not, but where a closed channel tells of a death of another reason."""
        if self._ending.closed_s is not None:
            return
        if assignment.begun_s is not None:
            self.kill(FailureCode.TIMEOUT)
        else:
            assignment.given_up = True
            self._end("did not begin its task")

    def _has_unread(self) -> bool:
        """Whether bytes of the task have not been read by the slot, as it does by and by until it begins."""
        if self._transport.is_closing():
            return self._ending.left_unread
        unread = fcntl.ioctl(self._channel, termios.TIOCOUTQ, bytes(4))
        return any(unread) or self._transport.get_write_buffer_size() > 0

    def _release(self, assignment: Assignment) -> None:
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
            self._ending.violation = self._ending.violation or "closed its channel"
            self._end(self._ending.violation)

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
            self.started.set_exception(error or self._ending.failed_start())
        assignment = self._assignment
        if assignment is None or assignment.result.done():
            return
        result = error or self._ending.result(assignment)
        if isinstance(result, Exception):
            assignment.result.set_exception(result)
            return
        task, reason = assignment.task, result.failure.message
        log.warning("slot.died", slot=self.number, pid=self.pid, request=task.key, reason=reason)
        assignment.result.set_result(result)
