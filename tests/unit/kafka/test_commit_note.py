"""What travels in a commit's metadata comes back as it was, within the broker's limit."""

import string

from hypothesis import given
from hypothesis import strategies as st

from shared.kafka.commit_note import MAX_METADATA, CommitNote, decode_note, encode_note
from shared.kafka.offset_tracker import Run


@st.composite
def notes(draw: st.DrawFn, max_runs: int = 40) -> tuple[int, CommitNote]:
    committed = draw(st.integers(0, 2**62))
    runs: list[Run] = []
    end = committed
    for gap, count in draw(st.lists(st.tuples(st.integers(1, 300), st.integers(1, 300)), max_size=max_runs)):
        runs.append((end + gap, count))
        end += gap + count
    until = draw(st.integers(0, 10_000))
    offsets = st.integers(committed, committed + 10_000)
    note = CommitNote(
        hi=committed + draw(st.integers(0, 10_000)),
        deaths=draw(st.integers(0, 300)),
        suspect_until=committed + until if until else 0,
        attempts=draw(st.dictionaries(offsets, st.integers(1, 9), max_size=5)),
        done=tuple(runs),
    )
    return committed, note


@given(notes())
def test_a_note_survives_the_broker(given_note: tuple[int, CommitNote]) -> None:
    committed, note = given_note
    assert decode_note(committed, encode_note(committed, note)) == note


@given(notes(max_runs=200), st.integers(200, 600))
def test_only_the_far_end_is_cut_off(given_note: tuple[int, CommitNote], room: int) -> None:
    committed, note = given_note
    text = encode_note(committed, note, room)
    found = decode_note(committed, text)
    assert len(text) <= room
    assert found.done == note.done[: len(found.done)]
    assert (found.hi, found.deaths, found.attempts) == (note.hi, note.deaths, note.attempts)
    if found.done != note.done:
        assert len(text) > room - 24, "there was room for more"


def test_a_thousand_scattered_records_fit() -> None:
    note = CommitNote(hi=0, done=tuple((offset, 1) for offset in range(1, 3_000, 2)))
    text = encode_note(0, note)
    assert len(text) <= MAX_METADATA
    assert len(decode_note(0, text).done) == 1_500


@given(
    st.one_of(
        st.text(max_size=200), st.text(string.ascii_letters + string.digits, max_size=80).map("1:".__add__)
    )
)
def test_foreign_metadata_says_nothing_and_breaks_nothing(text: str) -> None:
    note = decode_note(100, text)
    assert note.hi >= 100
    assert all(first >= 100 and count >= 0 for first, count in note.done)


def test_no_metadata_means_an_orderly_end() -> None:
    assert decode_note(7, "") == CommitNote(hi=7)
