"""What was fetched comes apart without losing a record or a step, in pieces of a bounded size."""

from hypothesis import given
from hypothesis import strategies as st

from services.projector.portions import Fetched, portions
from shared.db.batches import Move
from shared.kafka.records import Partition, Record


@st.composite
def fetches(draw: st.DrawFn) -> Fetched:
    """Records of three partitions in any interleaving, with gaps before, between and after them."""
    starts: dict[Partition, int] = {}
    ends: dict[Partition, int] = {}
    records = []
    for number, gap, size in draw(
        st.lists(st.tuples(st.integers(0, 2), st.integers(0, 3), st.integers(0, 50)), max_size=30)
    ):
        place = Partition("t", number)
        offset = ends.get(place, starts.setdefault(place, 10)) + gap
        ends[place] = offset + 1
        records.append(Record("t", number, offset, 0, None, b"x" * size))
    moves = {place: Move(starts[place], ends[place] + draw(st.integers(0, 2))) for place in ends}
    return Fetched(records=records, moves={**moves, Partition("t", 9): Move(5, 7)})


@given(fetches(), st.integers(1, 10), st.integers(1, 200))
def test_portions_are_bounded_and_come_to_the_same(
    fetched: Fetched, most_records: int, most_bytes: int
) -> None:
    pieces = list(portions(fetched, most_records=most_records, most_bytes=most_bytes))
    assert [record for piece in pieces for record in piece.records] == list(fetched.records)
    at = {place: move.start for place, move in fetched.moves.items()}
    for piece in pieces:
        assert len(piece.records) <= most_records
        assert sum(record.size for record in piece.records[:-1]) <= most_bytes
        for place, move in piece.moves.items():
            assert move.start == at[place] < move.end
            at[place] = move.end
        for record in piece.records:
            move = piece.moves[Partition(record.topic, record.partition)]
            assert move.start <= record.offset < move.end
    assert at == {place: move.end for place, move in fetched.moves.items()}
