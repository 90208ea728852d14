"""The end of a slot's process, as it becomes known from its channel and from the server."""

import os
import time
from dataclasses import dataclass

from services.compute.slot_assignment import Assignment, SlotStartError
from services.compute.slot_outcome import Failed, died
from services.compute.slot_protocol import Exited
from shared.domain.requests import FailureCode

__all__ = ["Ending"]


@dataclass(slots=True)
class Ending:
    """All that is known of it so far.

    Attributes:
        exited: the server's notice.
        closed_s: when the channel closed, by the monotonic clock.
        left_unread: whether the process had not read all of its task, as the kernel tells by a reset.
        violation: how the slot broke the protocol.
    """

    exited: Exited | None = None
    closed_s: float | None = None
    left_unread: bool = False
    violation: str = ""

    def failed_start(self) -> SlotStartError:
        """The error of a slot that has not come up."""
        exited = self.exited
        status = "it hangs" if exited is None else f"code {os.waitstatus_to_exitcode(exited.status)}"
        return SlotStartError(f"a slot died at its start: {status}")

    def result(self, assignment: Assignment) -> Failed | SlotStartError:
        """How the task ended that the process had; the error where it died of nothing that the task did."""
        return self._blameless(assignment) or died(
            self.exited,
            elapsed_ms=assignment.ran_ms(self._time_s()),
            limit_ms=assignment.task.timeout_ms,
            stopped_for=assignment.stopped_for,
            violation=self.violation,
        )

    def _time_s(self) -> float:
        """The time of death: the server may see it late, and the event loop the end of the channel."""
        known = [self.closed_s, None if self.exited is None else self.exited.at_s, time.monotonic()]
        return min(each for each in known if each is not None)

    def _blameless(self, assignment: Assignment) -> SlotStartError | None:
        if assignment.stopped_for is FailureCode.CANCELLED:
            return None
        if self.left_unread or assignment.given_up:
            return SlotStartError("the process of the slot was gone or stopped before it began its task")
        if self.exited is not None and self.exited.exceeded and self.exited.number != assignment.number:
            return SlotStartError("the process of the slot was killed for what its last task took")
        return None
