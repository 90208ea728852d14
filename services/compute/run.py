"""One request on its way through the slots, from queueing to its outcome; can be stopped at any point."""

import asyncio
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from services.compute import metrics
from services.compute.journal import Journal, now_ms
from services.compute.slot import Slot, Task
from services.compute.slot_outcome import Completed, Failed, TaskResult
from services.compute.slot_pool import SlotLease, SlotPool
from shared.domain.execution import (
    Computed,
    Execution,
    Faulted,
    RunAgain,
    decide_outcome,
    fail,
    refuse_to_start,
    start,
)
from shared.domain.requests import (
    Failure,
    FailureCode,
    RequestFailed,
    RequestStarted,
    RequestSubmitted,
    RequestSucceeded,
)
from shared.domain.types import JsonText
from shared.events.submission import FieldProblem
from shared.kafka.consumer import LeaveRecord

__all__ = ["Run", "RunContext"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunContext:
    """What all runs of a process share.

    Args:
        pool: the slots.
        journal: where long runs are announced.
        instance: name of this process in announcements.
        started_after_s: running time after which a run is announced.
    """

    pool: SlotPool
    journal: Journal
    instance: str
    started_after_s: float


class Run:
    """Runs `request` until there is an outcome: twice when its slot crashes, else once.

    `invalid_fields` says afterwards what was wrong in its input, where that was the reason of its failure.

    Args:
        context: what it runs with.
        request: what to run.
        timeout_ms: time limit of each attempt.
        traceparent: for the announcement.
        cancelled: whether somebody has cancelled the request already.
    """

    def __init__(
        self,
        context: RunContext,
        request: RequestSubmitted,
        *,
        timeout_ms: int,
        traceparent: str | None,
        cancelled: bool,
    ) -> None:
        self._context = context
        self._request = request
        self._timeout_ms = timeout_ms
        self._traceparent = traceparent
        self._cancelled = cancelled
        self._leaving = False
        self._turn: SlotLease | None = None
        self._slot: Slot | None = None
        self.invalid_fields: tuple[FieldProblem, ...] = ()

    def cancel(self) -> str:
        """End the run with a failure; returns what it was doing."""
        self._cancelled = True
        if self._slot is not None:
            self._slot.kill(FailureCode.CANCELLED)
            return "running"
        failure = self._refusal()
        if self._turn is not None and failure is not None:
            self._turn.refuse(_RefusedToStart(failure))
        return "queued"

    def leave(self) -> None:
        """Give the run up unless it has begun: another process will do it."""
        self._leaving = True
        if self._turn is not None:
            self._turn.refuse(LeaveRecord())

    async def outcome(self) -> RequestSucceeded | RequestFailed:
        """Run to the end.

        Raises:
            LeaveRecord: it was given up in good order.
            SlotServerError: the slots are gone; the process should end.
        """
        attempt = 1
        while True:
            decided = await self._attempt(attempt)
            if not isinstance(decided, RunAgain):
                return decided
            metrics.SECOND_ATTEMPTS.inc()
            attempt = decided.attempt

    async def _attempt(self, attempt: int) -> RequestSucceeded | RequestFailed | RunAgain:
        queued_s = time.monotonic()
        try:
            execution = await self._execute(attempt, queued_s)
        except _RefusedToStart as refused:
            return fail(
                self._request,
                refused.failure,
                attempts=attempt - 1,
                now_ms=now_ms(),
                queue_ms=_ms_since(queued_s),
            )
        return decide_outcome(self._request, execution, attempt=attempt, now_ms=now_ms())

    async def _execute(self, attempt: int, queued_s: float) -> Execution:
        request = self._request
        self._check()
        turn = self._turn = self._context.pool.acquire(request.mode, request.operation)
        async with _Announcement(self._context.started_after_s) as announcement:
            try:
                async with turn as slot:
                    await self._context.journal.until_room()
                    self._check()
                    queue_ms = _ms_since(queued_s)
                    announcement.arm(lambda: self._announce(attempt, slot))
                    self._slot = slot
                    outcome = await slot.run(self._task())
            finally:
                self._turn = self._slot = None
        if isinstance(outcome, Failed):
            self.invalid_fields = outcome.fields
        return _execution(outcome, queue_ms)

    def _check(self) -> None:
        """Whether it may start now.

        Raises:
            LeaveRecord: the process is stopping.
            _RefusedToStart: it was cancelled, or is too late.
        """
        if self._leaving:
            raise LeaveRecord
        failure = self._refusal()
        if failure is not None:
            raise _RefusedToStart(failure)

    def _refusal(self) -> Failure | None:
        return refuse_to_start(self._request, cancelled=self._cancelled, now_ms=now_ms())

    def _task(self) -> Task:
        request = self._request
        return Task(
            operation=request.operation,
            input=request.input.encode(),
            timeout_ms=self._timeout_ms,
            key=request.request_id,
        )

    async def _announce(self, attempt: int, slot: Slot) -> None:
        began_ms = now_ms() - round(self._context.started_after_s * 1000)
        worker = f"{self._context.instance}/{slot.pid}"
        event: RequestStarted = start(self._request, attempt=attempt, started_at_ms=began_ms, worker=worker)
        await self._context.journal.started(event, self._traceparent)


class _RefusedToStart(Exception):  # noqa: N818 - a decision, not a fault
    """The request ends without having been started (again)."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


class _Announcement:
    """Tells once of a run that lasts; what has been begun to tell is told before this is left.

    So the announcement never follows the outcome in the log, and holds no slot up.
    """

    def __init__(self, after_s: float) -> None:
        self._after_s = after_s
        self._timer: asyncio.TimerHandle | None = None
        self._telling: asyncio.Task[None] | None = None

    def arm(self, tell: Callable[[], Coroutine[None, None, None]]) -> None:
        """Have `tell` called unless this is left in time."""
        self._timer = asyncio.get_running_loop().call_later(self._after_s, self._tell, tell)

    def _tell(self, tell: Callable[[], Coroutine[None, None, None]]) -> None:
        self._telling = asyncio.create_task(tell())

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._telling is not None:
            if exc is not None:
                self._telling.cancel()
            await asyncio.wait({self._telling})
            if not self._telling.cancelled():
                self._telling.result()


def _execution(outcome: TaskResult, queue_ms: float) -> Execution:
    if isinstance(outcome, Completed):
        result = JsonText(outcome.result.decode())
        return Computed(result=result, queue_ms=queue_ms, compute_ms=outcome.compute_ms)
    return Faulted(error=outcome.failure, queue_ms=queue_ms, compute_ms=outcome.compute_ms)


def _ms_since(began_s: float) -> float:
    return round((time.monotonic() - began_s) * 1000, 3)
