"""Who gets the next free slot. Pure.

Callers who wait come first, yet a flood of them leaves the others a share. One who finds every slot taken
need not wait for a task to end: a slot is borrowed, and paid back with the next that gets free. Within a mode
operations take turns, and none takes every slot while another waits.
"""

from collections import Counter, OrderedDict, deque
from typing import Final, Generic, TypeVar

from shared.domain.types import Mode

__all__ = ["SYNC_IN_A_ROW", "SlotQueue"]

W = TypeVar("W")

SYNC_IN_A_ROW: Final = 8
"""Where async requests have no slot of their own, so many sync ones go before one that waits."""


class SlotQueue(Generic[W]):
    """Waiters by mode and operation, and what is running.

    Args:
        slots: how many run at a time.
        reserved: how many of them are for sync requests while async ones wait too.
        borrowed: how many more may run so that a sync request has what is reserved at once.
    """

    def __init__(self, slots: int, reserved: int, borrowed: int = 0) -> None:
        if not 1 <= reserved <= slots:
            raise ValueError(f"of {slots} slots 1 to {slots} can be reserved, not {reserved}")
        self._slots = slots
        self._reserved = reserved
        self._most = slots + borrowed
        self._by_mode: Counter[Mode] = Counter()
        self._by_operation: Counter[str] = Counter()
        self._waiting: dict[Mode, OrderedDict[str, deque[W]]] = {mode: OrderedDict() for mode in Mode}
        self._sync_in_a_row = 0

    def add(self, waiter: W, mode: Mode, operation: str) -> None:
        """Queue a waiter behind those of its mode and operation."""
        self._waiting[mode].setdefault(operation, deque()).append(waiter)

    def remove(self, waiter: W, mode: Mode, operation: str) -> None:
        """Forget a waiter that gave up; one that is not queued is none of ours."""
        queue = self._waiting[mode].get(operation)
        if queue is not None and waiter in queue:
            queue.remove(waiter)
            if not queue:
                del self._waiting[mode][operation]

    def take(self) -> W | None:
        """The waiter that gets a slot, running from now on; None when nobody waits or no slot is free."""
        if self.running >= self._slots:
            return self._start(Mode.SYNC) if self._may_borrow() else None
        mode = self._next_mode()
        if mode is None:
            return None
        self._sync_in_a_row = self._sync_in_a_row + 1 if mode is Mode.SYNC else 0
        return self._start(mode)

    def release(self, mode: Mode, operation: str) -> None:
        """What was taken has ended."""
        self._by_mode[mode] -= 1
        self._by_operation[operation] -= 1
        if not self._by_operation[operation]:
            del self._by_operation[operation]

    @property
    def running(self) -> int:
        """How many slots are taken."""
        return self._by_mode.total()

    @property
    def waiting(self) -> int:
        """How many wait for a slot."""
        return sum(len(queue) for operations in self._waiting.values() for queue in operations.values())

    def _may_borrow(self) -> bool:
        owed = self._by_mode[Mode.SYNC] < self._reserved
        return owed and self.running < self._most and bool(self._waiting[Mode.SYNC])

    def _start(self, mode: Mode) -> W:
        operation = self._next_operation(mode)
        self._by_mode[mode] += 1
        self._by_operation[operation] += 1
        return self._pop(mode, operation)

    def _next_mode(self) -> Mode | None:
        if not self._waiting[Mode.SYNC]:
            return Mode.ASYNC if self._waiting[Mode.ASYNC] else None
        if not self._waiting[Mode.ASYNC]:
            return Mode.SYNC
        if self._reserved == self._slots:
            return Mode.SYNC if self._sync_in_a_row < SYNC_IN_A_ROW else Mode.ASYNC
        return Mode.SYNC if self._by_mode[Mode.SYNC] < self._reserved else Mode.ASYNC

    def _next_operation(self, mode: Mode) -> str:
        """The one whose turn it is, unless it would then hold every slot while another waits."""
        operations = self._waiting[mode]
        most = max(1, self._slots - 1)
        fair = (name for name in operations if self._by_operation[name] < most)
        return next(fair, next(iter(operations)))

    def _pop(self, mode: Mode, operation: str) -> W:
        queue = self._waiting[mode][operation]
        waiter = queue.popleft()
        if queue:
            self._waiting[mode].move_to_end(operation)
        else:
            del self._waiting[mode][operation]
        return waiter
