"""Every record is understood, skipped, or kept as an anomaly; none raises."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.db.interpret import Anomaly, Skipped, Understood, interpret, interpret_submission
from shared.db.keys import PROJECTED_TOPICS, delivered_key, facts_key, order_key, place_of, submission_of
from shared.domain.destinations import DestinationEnabled
from shared.domain.requests import RequestDeadLettered, RequestStarted, RequestSubmitted
from shared.domain.types import Mode, RequestFacts, RequestId
from shared.events.codec import decode_as
from shared.events.submission import Submission, decode_submission
from shared.events.submit_keys import NO_KEYS, SubmitKeys
from shared.kafka.records import Record
from shared.kafka.topics import Topic
from tests.support.log_builder import LogBuilder
from tests.support.requests import facts, live, request_id, submit
from tests.unit.events.test_submit_keys import FORGERIES, KEYS, written

HEADERS = st.lists(
    st.tuples(
        st.sampled_from(["ce_specversion", "ce_type", "ce_id", "ce_source", "x"]), st.binary(max_size=20)
    ),
    max_size=4,
).map(tuple)


@given(
    st.sampled_from(PROJECTED_TOPICS),
    st.none() | st.binary(max_size=60),
    st.none() | st.binary(max_size=60),
    HEADERS,
)
def test_anything_can_be_interpreted(
    topic: Topic, key: bytes | None, value: bytes | None, headers: tuple[tuple[str, bytes], ...]
) -> None:
    found = interpret(topic, Record("t", 0, 0, 1, key, value, headers))
    expected = Skipped if topic in (Topic.REQUESTS, Topic.REQUESTS_SYNC) else Anomaly
    assert isinstance(found, expected | Understood)


def test_lack_of_memory_makes_no_anomaly() -> None:
    """The record is as good as before, and read again."""

    def decoded() -> Submission:
        raise MemoryError

    with pytest.raises(MemoryError):
        interpret_submission(Topic.REQUESTS, written(KEYS), decoded)


def test_a_life_is_understood_and_its_data_read_again() -> None:
    log = LogBuilder()
    live(log, 0)
    found = [interpret(Topic(record.topic.removeprefix("t.")), record) for record in log.records()]
    assert all(isinstance(each, Understood) and each.request_id == request_id(0) for each in found)
    [submitted] = [each for each in found if isinstance(each, Understood) and each.topic is Topic.REQUESTS]
    assert submitted.data is not None
    assert decode_as(RequestSubmitted, submitted.data.encode()) == submitted.event


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"request_id": RequestId("not-a-uuid")}, "no canonical UUID"),
        ({"request_id": RequestId(request_id(0).upper())}, "no canonical UUID"),
        ({"operation": "o" * 129}, "operation is longer"),
    ],
)
def test_what_no_column_takes_is_an_anomaly(changes: dict[str, object], reason: str) -> None:
    wrong: RequestFacts = {**facts(0), **changes}  # type: ignore[typeddict-item]
    event = RequestStarted(**wrong, attempt=1, started_at_ms=1, worker="w")
    record = LogBuilder().event(Topic.RESULTS, event)
    found = interpret(Topic.RESULTS, record)
    assert isinstance(found, Anomaly)
    assert reason in found.reason


def test_an_integer_that_no_column_takes_is_an_anomaly() -> None:
    event = RequestStarted(**facts(0), attempt=2**63, started_at_ms=1, worker="w")
    found = interpret(Topic.RESULTS, LogBuilder().event(Topic.RESULTS, event))
    assert isinstance(found, Anomaly)
    assert "attempt is beyond 64 bit" in found.reason


def test_a_dead_letter_without_a_request_is_understood() -> None:
    letter = RequestDeadLettered(
        reason="malformed_json", message="", origin="t.requests-0-1", timestamp_ms=1, dead_lettered_at_ms=2
    )
    found = interpret(Topic.REQUESTS_DLQ, LogBuilder().event(Topic.REQUESTS_DLQ, letter))
    assert isinstance(found, Understood)
    assert (found.request_id, found.data) == (None, None)


def test_an_anomaly_finds_its_request_by_the_key() -> None:
    record = LogBuilder().raw(Topic.RESULTS, b"?", key=request_id(3).encode())
    found = interpret(Topic.RESULTS, record)
    assert isinstance(found, Anomaly)
    assert found.request_id == request_id(3)


def test_an_event_of_another_topic_is_an_anomaly() -> None:
    event = DestinationEnabled(
        destination_id="d", submitter="rest", url="http://h/", reason="", enabled_by="ops", at_ms=1
    )
    found = interpret(Topic.CALLBACKS, LogBuilder().event(Topic.CALLBACKS, event))
    assert isinstance(found, Anomaly)
    assert "does not belong" in found.reason


PLACES = st.builds(
    lambda partition, offset, at: Record("t", partition, offset, at, None, None),
    st.integers(0, 999_999),
    st.integers(0, 2**63 - 1),
    st.integers(0, 2**60),
)


@given(PLACES, PLACES)
def test_keys_sort_as_places_do(one: Record, other: Record) -> None:
    places = [(each.partition, each.offset) for each in (one, other)]
    assert (order_key(one) < order_key(other)) == (places[0] < places[1])
    assert place_of(order_key(one)) == place_of(delivered_key(order_key(one))) == places[0]
    assert delivered_key(order_key(one)) > order_key(other)
    in_time = [(each.timestamp_ms, each.partition, each.offset) for each in (one, other)]
    keys = [facts_key(Topic.REQUESTS, each) for each in (one, other)]
    assert (keys[0] < keys[1]) == (in_time[0] < in_time[1])
    assert max(keys) < facts_key(Topic.RESULTS, one)
    assert submission_of(keys[0]) == (Topic.REQUESTS, *places[0])
    assert submission_of(facts_key(Topic.CALLBACKS, one)) is None


def test_a_sync_submission_has_its_mode_from_its_topic() -> None:
    log = LogBuilder()
    submit(log, 0, mode=Mode.SYNC)
    [record] = log.records()
    found = interpret(Topic.REQUESTS_SYNC, record)
    assert isinstance(found, Understood)
    assert isinstance(found.event, RequestSubmitted)
    assert (found.event.mode, found.event.callback_url) == (Mode.SYNC, None)


@pytest.mark.parametrize("keys", [KEYS, NO_KEYS], ids=["keys", "no keys"])
@pytest.mark.parametrize("record", [written(KEYS), *FORGERIES.values()])
def test_the_projection_knows_requests_by_the_same_ids_as_compute(record: Record, keys: SubmitKeys) -> None:
    found = interpret(Topic.REQUESTS, record, keys)
    assert isinstance(found, Understood)
    assert found.event == decode_submission(record, Mode.ASYNC, keys).request


def test_an_unforeseen_fault_of_the_decoder_stops_no_table(monkeypatch: pytest.MonkeyPatch) -> None:
    def faulty(record: Record, mode: Mode, keys: SubmitKeys) -> None:
        raise RuntimeError("unforeseen")

    monkeypatch.setattr("shared.db.interpret.decode_submission", faulty)
    found = interpret(Topic.REQUESTS, Record("t", 0, 0, 1, None, b"{}"))
    assert isinstance(found, Anomaly)
    assert "unforeseen" in found.reason
