"""The laws of who gets the next slot."""

from collections import deque
from typing import Final

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from services.compute.slot_queue import SYNC_IN_A_ROW, SlotQueue
from shared.domain.types import Mode

Waiter = tuple[int, Mode, str]
OPERATIONS: Final = ("a", "b", "c")


class QueueMachine(RuleBasedStateMachine):
    """Waiters come, give up, are taken and end, in any order."""

    @initialize(slots=st.integers(1, 5), data=st.data())
    def start(self, slots: int, data: st.DataObject) -> None:
        self.slots = slots
        self.reserved = data.draw(st.integers(1, slots))
        self.most = slots + data.draw(st.integers(0, 2))
        self.queue: SlotQueue[Waiter] = SlotQueue(slots, self.reserved, self.most - slots)
        self.waiting: dict[tuple[Mode, str], deque[Waiter]] = {}
        self.running: list[Waiter] = []
        self.count = 0
        self.passed_over = 0

    @rule(mode=st.sampled_from(Mode), operation=st.sampled_from(OPERATIONS))
    def add(self, mode: Mode, operation: str) -> None:
        self.count += 1
        waiter = (self.count, mode, operation)
        self.waiting.setdefault((mode, operation), deque()).append(waiter)
        self.queue.add(waiter, mode, operation)

    @rule(data=st.data())
    @precondition(lambda self: any(self.waiting.values()))
    def give_up(self, data: st.DataObject) -> None:
        waiter = data.draw(st.sampled_from([each for queue in self.waiting.values() for each in queue]))
        self.waiting[waiter[1:]].remove(waiter)
        self.queue.remove(waiter, waiter[1], waiter[2])
        self.queue.remove(waiter, waiter[1], waiter[2])

    @rule()
    def take(self) -> None:
        sync_waits, async_waits = self._waits(Mode.SYNC), self._waits(Mode.ASYNC)
        others_wait = {key for key, queue in self.waiting.items() if queue}
        waiter = self.queue.take()
        in_sync = sum(1 for each in self.running if each[1] is Mode.SYNC)
        may_borrow = sync_waits and in_sync < self.reserved and len(self.running) < self.most
        borrows = len(self.running) >= self.slots
        if waiter is None:
            assert not may_borrow if borrows else not (sync_waits or async_waits)
            return
        _, mode, operation = waiter
        assert not borrows or (may_borrow and mode is Mode.SYNC)
        assert self.waiting[mode, operation].popleft() == waiter
        if sync_waits and async_waits and not borrows:
            self._check_share(mode)
        if any(key[0] is mode and key[1] != operation for key in others_wait) and self.slots > 1:
            alternatives = {name for kept, name in others_wait if kept is mode}
            greedy = self._of(operation) >= self.slots - 1
            assert not greedy or all(self._of(name) >= self.slots - 1 for name in alternatives)
        if not borrows:
            self.passed_over = self.passed_over + 1 if mode is Mode.SYNC and async_waits else 0
        assert self.reserved < self.slots or self.passed_over <= SYNC_IN_A_ROW
        self.running.append(waiter)

    @rule(data=st.data())
    @precondition(lambda self: self.running)
    def end(self, data: st.DataObject) -> None:
        waiter = data.draw(st.sampled_from(self.running))
        self.running.remove(waiter)
        self.queue.release(waiter[1], waiter[2])

    @invariant()
    def counts_agree(self) -> None:
        if hasattr(self, "queue"):
            assert self.queue.running == len(self.running) <= self.most
            assert self.queue.waiting == sum(len(queue) for queue in self.waiting.values())

    def _check_share(self, mode: Mode) -> None:
        """Both wait: sync requests get what is reserved first, the others the rest."""
        if self.reserved < self.slots:
            in_sync = sum(1 for each in self.running if each[1] is Mode.SYNC)
            assert mode is (Mode.SYNC if in_sync < self.reserved else Mode.ASYNC)

    def _waits(self, mode: Mode) -> bool:
        return any(queue for key, queue in self.waiting.items() if key[0] is mode)

    def _of(self, operation: str) -> int:
        return sum(1 for each in self.running if each[2] == operation)


TestQueue = QueueMachine.TestCase
TestQueue.settings = settings(max_examples=200, stateful_step_count=60, deadline=None)


def test_operations_take_turns() -> None:
    queue: SlotQueue[str] = SlotQueue(8, 4)
    for waiter in ("a1", "a2", "a3", "b1", "b2", "c1"):
        queue.add(waiter, Mode.ASYNC, waiter[0])
    assert [queue.take() for _ in range(7)] == ["a1", "b1", "c1", "a2", "b2", "a3", None]


def test_a_flood_of_sync_requests_leaves_one_of_two_slots_to_the_others() -> None:
    queue: SlotQueue[int] = SlotQueue(2, 1)
    for number in range(10):
        queue.add(number, Mode.SYNC, "a")
        queue.add(-number - 1, Mode.ASYNC, "a")
    assert [queue.take(), queue.take()] == [0, -1]
    queue.release(Mode.SYNC, "a")
    assert queue.take() == 1
    queue.release(Mode.ASYNC, "a")
    assert queue.take() == -2


def test_a_sync_request_is_next_however_many_others_wait() -> None:
    queue: SlotQueue[int] = SlotQueue(2, 1)
    for number in range(1000):
        queue.add(number, Mode.ASYNC, "a")
    assert [queue.take(), queue.take()] == [0, 1]
    queue.add(-1, Mode.SYNC, "a")
    queue.release(Mode.ASYNC, "a")
    assert queue.take() == -1


def test_a_sync_request_does_not_wait_for_a_task_to_end_and_pays_back() -> None:
    queue: SlotQueue[int] = SlotQueue(2, 1, borrowed=1)
    for number in range(10):
        queue.add(number, Mode.ASYNC, "a")
    assert [queue.take(), queue.take(), queue.take()] == [0, 1, None]
    queue.add(-1, Mode.SYNC, "a")
    queue.add(-2, Mode.SYNC, "a")
    assert [queue.take(), queue.take()] == [-1, None]
    queue.release(Mode.ASYNC, "a")
    assert queue.take() is None
    queue.release(Mode.SYNC, "a")
    assert [queue.take(), queue.take()] == [-2, None]


@pytest.mark.parametrize(("slots", "reserved"), [(1, 0), (2, 3), (0, 0)])
def test_a_share_must_fit(slots: int, reserved: int) -> None:
    with pytest.raises(ValueError, match="can be reserved"):
        SlotQueue[int](slots, reserved)
