"""One request on its way through the slots, from queueing to its outcome; can be stopped at any point."""

import asyncio
import time
from dataclasses import dataclass
from typing import Final

import structlog

from services.compute import metrics
from services.compute.journal import Journal, now_ms
from services.compute.slot import Slot, SlotStartError, Task
from services.compute.slot_outcome import Completed, Failed, TaskResult
from services.compute.slot_pool import SlotLease, SlotPool
from shared.domain.execution import (
    Computed,
    Faulted,
    RunAgain,
    decide_outcome,
    fail,
    refuse_to_start,
    start,
)
from shared.domain.requests import Failure, FailureCode, RequestFailed, RequestSucceeded
from shared.domain.types import JsonText
from shared.events.request_data import FieldProblem
from shared.events.submission import Submission
from shared.kafka.backoff import backoff_s
from shared.kafka.consumer import Quarantine, ReleaseRecord
from shared.kafka.records import Record

__all__ = ["Announcer", "Execution", "ExecutionContext"]

log = structlog.get_logger()

TICK_S: Final = 0.02
"""How late an announcement may be: looking so often costs less than a timer for each request."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutionContext:
    """The parts that all executions of a process share.

    Args:
        pool: the slots.
        journal: takes no more outcomes than the log does.
        announcer: announces executions that last.
        quarantine: learns which record a slot holds.
    """

    pool: SlotPool
    journal: Journal
    announcer: "Announcer"
    quarantine: Quarantine


class Execution:
    """Runs a request until there is an outcome: twice when its slot crashes, else once.

    Attributes:
        invalid_fields: the faults of its input, where these were the reason of its failure.

    Args:
        context: shared parts.
        record: holds the request.
        submission: the request.
        timeout_ms: time limit of each attempt.
        cancelled: whether the request has been cancelled already.
    """

    def __init__(
        self,
        context: ExecutionContext,
        record: Record,
        submission: Submission,
        *,
        timeout_ms: int,
        cancelled: bool,
    ) -> None:
        self.submission = submission
        self.invalid_fields: tuple[FieldProblem, ...] = ()
        self._context = context
        self._record = record
        self._request = submission.request
        self._timeout_ms = timeout_ms
        self._cancelled = cancelled
        self._releasing = False
        self._lease: SlotLease | None = None
        self._slot: Slot | None = None

    def cancel(self) -> str:
        """End it with a failure; returns what it was doing."""
        self._cancelled = True
        if self._slot is not None:
            self._slot.kill(FailureCode.CANCELLED)
            return "running"
        failure = self._refusal()
        if self._lease is not None and failure is not None:
            self._lease.refuse(_RefusedToStart(failure))
        return "queued"

    def release(self) -> None:
        """Give it up unless it has begun: another process will do it."""
        self._releasing = True
        if self._lease is not None:
            self._lease.refuse(ReleaseRecord())

    async def outcome(self) -> RequestSucceeded | RequestFailed:
        """Run to the end.

        Raises:
            ReleaseRecord: it was given up in good order.
            SlotServerError: the slots are gone; the process is about to end.
        """
        attempt, waits = 1, backoff_s()
        while True:
            queued_s = time.monotonic()
            try:
                result, queue_ms = await self._attempt(attempt, queued_s)
            except SlotStartError as error:
                log.warning("slot.not_taken", request=self._request.request_id, error=str(error))
                await asyncio.sleep(next(waits))
                continue
            except _RefusedToStart as refused:
                return self._refused(refused.failure, attempt - 1, _ms_since(queued_s))
            if isinstance(result, Failed):
                self.invalid_fields = result.fields
            decided = decide_outcome(
                self._request, _execution(result, queue_ms), attempt=attempt, now_ms=now_ms()
            )
            if not isinstance(decided, RunAgain):
                return decided
            metrics.SECOND_ATTEMPTS.inc()
            attempt = decided.attempt

    async def _attempt(self, attempt: int, queued_s: float) -> tuple[TaskResult, float]:
        """Wait for a slot and run in it; the result, and how long the wait was, in ms."""
        context, request = self._context, self._request
        self._check()
        lease = self._lease = context.pool.acquire(request.mode, request.operation)
        try:
            async with lease as slot:
                await context.journal.until_room()
                self._check()
                queue_ms = _ms_since(queued_s)
                task = Task(
                    operation=request.operation,
                    input=bytes(request.input),
                    timeout_ms=self._timeout_ms,
                    key=request.request_id,
                )
                async with context.quarantine.hold(self._record):
                    self._check()  # a blamed record has waited for a commit
                    self._slot = slot
                    context.announcer.begin(self, attempt, slot)
                    result = await slot.run(task)
        except BaseException:
            context.announcer.drop(self)
            raise
        finally:
            self._lease = self._slot = None
        await context.announcer.end(self)
        return result, queue_ms

    def _check(self) -> None:
        """Look whether it may start.

        Raises:
            ReleaseRecord: the process is stopping.
            _RefusedToStart: it was cancelled, or is too late.
        """
        if self._releasing:
            raise ReleaseRecord
        failure = self._refusal()
        if failure is not None:
            raise _RefusedToStart(failure)

    def _refusal(self) -> Failure | None:
        return refuse_to_start(self._request, cancelled=self._cancelled, now_ms=now_ms())

    def _refused(self, failure: Failure, attempts: int, queue_ms: float) -> RequestFailed:
        return fail(self._request, failure, attempts=attempts, now_ms=now_ms(), queue_ms=queue_ms)


class _RefusedToStart(Exception):  # noqa: N818 - a decision, not a fault
    """The request ends without having been started (again)."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


@dataclass(slots=True)
class _Running:
    """An execution that a slot runs, and the announcement of it, if that is being written."""

    attempt: int
    slot: Slot
    due_s: float
    writing: asyncio.Task[None] | None = None


class Announcer:
    """Writes one event for each execution that lasts.

    An announcement that was begun is written, or left to the order of its producer, before `end` returns: so
    none follows the outcome in the log.

    Args:
        journal: where they are written.
        instance: name of this process in announcements.
        after_ms: running time after which an execution is announced.
    """

    def __init__(self, journal: Journal, *, instance: str, after_ms: int) -> None:
        self._journal = journal
        self._instance = instance
        self._after_ms = after_ms
        self._running: dict[Execution, _Running] = {}

    def begin(self, execution: Execution, attempt: int, slot: Slot) -> None:
        """A slot runs `execution` from now on."""
        self._running[execution] = _Running(attempt, slot, time.monotonic() + self._after_ms / 1000)

    async def end(self, execution: Execution) -> None:
        """No slot runs `execution` any more."""
        running = self._running.pop(execution, None)
        if running is not None and running.writing is not None:
            await running.writing

    def drop(self, execution: Execution) -> None:
        """`execution` was given up: another process will announce it."""
        running = self._running.pop(execution, None)
        if running is not None and running.writing is not None:
            running.writing.cancel()

    async def run(self) -> None:
        """Look at intervals until cancelled."""
        while True:
            await asyncio.sleep(TICK_S)
            now_s = time.monotonic()
            for execution, running in self._running.items():
                if running.writing is None and running.due_s <= now_s:
                    running.writing = asyncio.create_task(self._announce(execution, running))

    async def _announce(self, execution: Execution, running: _Running) -> None:
        event = start(
            execution.submission.request,
            attempt=running.attempt,
            started_at_ms=now_ms() - self._after_ms,
            worker=f"{self._instance}/{running.slot.pid}",
        )
        await self._journal.started(event, execution.submission.traceparent)


def _execution(result: TaskResult, queue_ms: float) -> Computed | Faulted:
    if isinstance(result, Completed):
        text = JsonText(result.result.decode())
        return Computed(result=text, queue_ms=queue_ms, compute_ms=result.compute_ms)
    return Faulted(error=result.failure, queue_ms=queue_ms, compute_ms=result.compute_ms)


def _ms_since(began_s: float) -> float:
    return round((time.monotonic() - began_s) * 1000, 3)
