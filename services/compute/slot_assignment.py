"""A task in a slot, the times that are known of it, and how many a slot may have."""

import asyncio
import time
from dataclasses import dataclass, field
from typing import Final

from services.compute.slot_outcome import TaskResult
from shared.domain.requests import FailureCode

__all__ = ["Assignment", "RecyclePolicy", "SlotStartError", "Task"]

LIMIT_GRACE_S: Final = 0.04
"""How long after the limit the consumer looks for a slot that the kernel has not killed."""

LOOK_S: Final = 0.1
"""Between looks whether the task has begun."""


class SlotStartError(OSError):
    """A slot did not come up, or was gone before it began its task; another one may do."""


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

    def reason(self, tasks: int, rss_bytes: int) -> str:
        """Why a slot with these is to be replaced, or nothing."""
        if rss_bytes > self.max_rss_bytes:
            return f"{rss_bytes} bytes resident"
        return f"{tasks} tasks" if tasks >= self.max_tasks else ""


@dataclass(slots=True, kw_only=True)
class Assignment:
    """A task in the slot's process; all times are by the monotonic clock.

    It began between `waiting_s`, its hand-over or the last look that found it waiting, and `begun_s`, the
    first look that found it begun: counted from the latter, its limit has passed for certain.
    """

    number: int
    task: Task
    result: asyncio.Future[TaskResult]
    handed_s: float = field(default_factory=time.monotonic)
    waiting_s: float = field(default_factory=time.monotonic)
    begun_s: float | None = None
    given_up: bool = False
    stopped_for: FailureCode | None = None
    watched: bool = False
    timer: asyncio.TimerHandle | None = None

    def first_look_s(self) -> float:
        """Time from the hand-over to the first look."""
        return min(LOOK_S, self._patience_s())

    def note(self, *, waiting: bool) -> None:
        """Note the finding of a look."""
        if self.begun_s is not None:
            return
        if waiting:
            self.waiting_s = time.monotonic()
        else:
            self.begun_s = time.monotonic()

    def next_look_s(self) -> float:
        """Time until the next look; 0 or less when the slot has to be ended."""
        now_s = time.monotonic()
        if self.begun_s is not None:
            return self.begun_s + self._patience_s() - now_s
        return min(LOOK_S, self.handed_s + self._patience_s() - now_s)

    def ran_ms(self, until_s: float) -> float:
        """For how long it ran at most."""
        return (until_s - self.waiting_s) * 1000

    def _patience_s(self) -> float:
        return self.task.timeout_ms / 1000 + LIMIT_GRACE_S
