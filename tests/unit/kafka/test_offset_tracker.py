"""The law of commits: they never pass unfinished work, and what was finished is not forgotten."""

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from shared.kafka.offset_tracker import OffsetRange, OffsetTracker


def offsets(runs: list[OffsetRange]) -> set[int]:
    return {offset for first, count in runs for offset in range(first, first + count)}


class Partition(RuleBasedStateMachine):
    """A log with gaps, read by one owner after another; records finish in any order."""

    @initialize(first=st.integers(0, 2**40), gaps=st.lists(st.integers(1, 5), min_size=1, max_size=60))
    def write_log(self, first: int, gaps: list[int]) -> None:
        self.log = [first + sum(gaps[: index + 1]) - gaps[0] for index in range(len(gaps))]
        self.finished: set[int] = set()
        self.handled: list[int] = []
        self.in_flight: set[int] = set()
        self.next = 0
        self.tracker = OffsetTracker(first)

    @precondition(lambda self: self.next < len(self.log))
    @rule(count=st.integers(1, 10))
    def fetch(self, count: int) -> None:
        for offset in self.log[self.next : self.next + count]:
            started = self.tracker.start(offset)
            assert started == (offset not in self.finished and offset not in self.in_flight)
            if started:
                self.in_flight.add(offset)
        self.next = min(self.next + count, len(self.log))

    @precondition(lambda self: self.in_flight)
    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        offset = data.draw(st.sampled_from(sorted(self.in_flight)))
        self.in_flight.remove(offset)
        self.finished.add(offset)
        self.handled.append(offset)
        self.tracker.finish(offset)

    @rule()
    def change_owner(self) -> None:
        """The next owner knows the commit alone, and reads from it."""
        committed = self.tracker.committable
        self.tracker = OffsetTracker(committed, self.tracker.done())
        self.in_flight.clear()
        self.next = sum(offset < committed for offset in self.log)

    @rule()
    def read_again(self) -> None:
        """A partition that is kept over a rebalance is fetched from its commit again."""
        self.next = sum(offset < self.tracker.committable for offset in self.log)

    @precondition(lambda self: self.next == len(self.log))
    @rule(markers=st.integers(1, 3))
    def reach_end(self, markers: int) -> None:
        self.tracker.advance(self.log[-1] + 1 + markers)
        if not self.in_flight:
            assert self.tracker.committable > self.log[-1] + markers

    @invariant()
    def commit_never_passes_unfinished_work(self) -> None:
        if hasattr(self, "log"):
            assert all(offset in self.finished for offset in self.log if offset < self.tracker.committable)

    @invariant()
    def done_names_exactly_what_is_finished_beyond_the_commit(self) -> None:
        if hasattr(self, "log"):
            named = offsets(self.tracker.done())
            known = {each for each in self.finished if each >= self.tracker.committable}
            assert named & set(self.log) == known

    @invariant()
    def nothing_is_done_twice(self) -> None:
        if hasattr(self, "log"):
            assert len(self.handled) == len(set(self.handled))


TestPartition = Partition.TestCase
TestPartition.settings = settings(max_examples=60, stateful_step_count=40)


@given(st.lists(st.tuples(st.integers(0, 200), st.integers(1, 9)), max_size=20), st.integers(0, 100))
def test_inherited_runs_may_overlap_and_come_in_any_order(runs: list[OffsetRange], committed: int) -> None:
    tracker = OffsetTracker(committed, runs)
    expected = {offset for offset in offsets(runs) if offset >= committed}
    started = {offset for offset in range(committed, 220) if tracker.start(offset)}
    assert started == set(range(committed, 220)) - expected


def test_what_is_in_flight_alone_holds_the_commit_back() -> None:
    tracker = OffsetTracker(10)
    assert tracker.start(14)
    assert tracker.committable == 14
    assert tracker.start(20)
    tracker.finish(14)
    assert (tracker.committable, tracker.position) == (20, 21)
