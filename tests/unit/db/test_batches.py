"""A batch comes apart without losing a record or a step."""

from hypothesis import given
from hypothesis import strategies as st

from shared.db.batches import Batch, Move, as_anomaly, cut_at
from shared.db.interpret import Understood, interpret
from shared.kafka.records import Partition, Record
from shared.kafka.topics import Topic
from tests.support.log_builder import PREFIX, LogBuilder
from tests.support.requests import live

TOPIC = PREFIX + Topic.RESULTS


@st.composite
def batches(draw: st.DrawFn) -> Batch:
    """Records of three partitions in any interleaving, with gaps before, between and after them."""
    ends: dict[Partition, int] = {}
    starts: dict[Partition, int] = {}
    entries = []
    for number, gap, size in draw(
        st.lists(st.tuples(st.integers(0, 2), st.integers(0, 3), st.integers(0, 50)), max_size=30)
    ):
        place = Partition(TOPIC, number)
        starts.setdefault(place, 10)
        offset = ends.get(place, 10) + gap
        ends[place] = offset + 1
        record = Record(TOPIC, number, offset, 0, None, b"x" * size)
        entries.append(interpret(Topic.RESULTS, record))
    idle = Partition(TOPIC, 9)
    moves = {place: Move(starts[place], ends[place] + draw(st.integers(0, 2))) for place in ends}
    return Batch(entries=entries, moves={**moves, idle: Move(5, 7)})


@given(batches(), st.integers(0, 30))
def test_two_pieces_come_to_the_same(batch: Batch, index: int) -> None:
    head, tail = cut_at(batch, index)
    assert [*head.entries, *tail.entries] == list(batch.entries)
    check_chain(batch, [head, tail])


def check_chain(batch: Batch, pieces: list[Batch]) -> None:
    """Each piece starts where the one before ended, and holds only records within its steps."""
    at = {place: move.start for place, move in batch.moves.items()}
    for piece in pieces:
        for place, move in piece.moves.items():
            assert move.start == at[place] < move.end
            at[place] = move.end
        for entry in piece.entries:
            move = piece.moves[Partition(entry.record.topic, entry.record.partition)]
            assert move.start <= entry.record.offset < move.end
    assert at == {place: move.end for place, move in batch.moves.items()}


def test_a_refused_record_is_kept_with_its_reason() -> None:
    log = LogBuilder()
    live(log, 0)
    [entry] = [interpret(Topic.RESULTS, record) for record in log.logs[Partition(TOPIC, 0)]]
    assert isinstance(entry, Understood)
    anomaly = as_anomaly(entry, "too long")
    assert (anomaly.request_id, anomaly.reason, anomaly.record) == (
        entry.request_id,
        "too long",
        entry.record,
    )
