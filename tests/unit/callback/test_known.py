"""What is remembered of callbacks is what their facts say, the last ones, in bounded memory."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from services.callback.known import KnownPartition
from shared.domain.callbacks import (
    EMPTY_CALLBACK,
    CallbackEvent,
    CallbackState,
    CallbackStatus,
    evolve,
)
from shared.domain.delivering import Refusal, decide_delivery
from shared.kafka.topics import Topic
from tests.support.log_builder import LogBuilder
from tests.support.requests import facts
from tests.unit.callback.support import attempted, delivered, delivery, replayed

FACTS: list[CallbackEvent] = [
    *(delivered(number) for number in range(3)),
    *(attempted(number, attempt=attempt) for number in range(3) for attempt in (1, 2)),
    *(replayed(number) for number in range(3)),
]


@given(st.lists(st.sampled_from(FACTS), max_size=30))
def test_reading_facts_back_is_folding_them(events: list[CallbackEvent]) -> None:
    log = LogBuilder()
    read, folded = KnownPartition(100), KnownPartition(100)
    for event in events:
        read.read(log.event(Topic.CALLBACKS, event))
        folded.fold(event)
    for number in range(3):
        state = EMPTY_CALLBACK
        for event in events:
            if event.request_id == facts(number)["request_id"]:
                state = evolve(state, event)
        known = read.state(facts(number)["request_id"])
        assert known == folded.state(facts(number)["request_id"])
        assert known.status == state.status
        assert known.status is CallbackStatus.DELIVERED or known == state


def test_what_was_told_of_longest_ago_is_forgotten_first() -> None:
    known = KnownPartition(2)
    known.fold(attempted(0))
    known.fold(delivered(1))
    known.fold(attempted(0, attempt=2))
    known.fold(delivered(2))
    ids = [facts(number)["request_id"] for number in range(3)]
    assert [each in known for each in ids] == [True, False, True]
    assert len(known) == 2


def test_records_that_are_no_facts_say_nothing() -> None:
    log = LogBuilder()
    known = KnownPartition(10)
    known.read(log.raw(Topic.CALLBACKS, b"junk"))
    known.read(log.raw(Topic.CALLBACKS, None))
    known.read(log.event(Topic.CALLBACKS, delivery()))
    assert len(known) == 0


def test_a_replay_is_known_from_its_delivery() -> None:
    known = KnownPartition(10)
    replay = delivery(attempt=1, replay_count=1)
    known.expect(replay)
    known.fold(attempted(attempt=1))
    assert known.state(replay.request_id) == CallbackState(
        status=CallbackStatus.RETRYING, attempts=1, replay_count=1
    )
    assert decide_delivery(known.state(replay.request_id), replay) is Refusal.STALE


def test_a_delivery_that_was_put_off_is_known_and_may_still_be_made() -> None:
    known = KnownPartition(10)
    known.expect(delivery())
    assert facts(0)["request_id"] in known
    assert decide_delivery(known.state(facts(0)["request_id"]), delivery()) is None


def test_a_backlog_of_those_put_off_pushes_nothing_out_that_has_a_fact() -> None:
    known = KnownPartition(3)
    known.fold(delivered(0))
    for number in range(1, 20):
        known.expect(replace(delivery(number), deferrals=1))
    assert known.state(facts(0)["request_id"]).status is CallbackStatus.DELIVERED
    assert facts(19)["request_id"] in known
    assert len(known) == 4
    known.fold(delivered(19))
    assert known.state(facts(19)["request_id"]).status is CallbackStatus.DELIVERED
    assert len(known) == 4
