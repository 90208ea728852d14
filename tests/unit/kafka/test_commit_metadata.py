"""A commit's metadata comes back as it was, within the broker's limit; that of the last release is read."""

import string

from hypothesis import given
from hypothesis import strategies as st

from shared.kafka.commit_metadata import MAX_METADATA, CommitMetadata, decode_metadata, encode_metadata
from shared.kafka.offset_tracker import OffsetRange


@st.composite
def metadata_of_commits(draw: st.DrawFn, max_ranges: int = 40) -> tuple[int, CommitMetadata]:
    committed = draw(st.integers(0, 2**62))
    ranges: list[OffsetRange] = []
    end = committed
    pairs = st.tuples(st.integers(1, 300), st.integers(1, 300))
    for gap, count in draw(st.lists(pairs, max_size=max_ranges)):
        ranges.append((end + gap, count))
        end += gap + count
    offsets = st.integers(committed, committed + 10_000)
    attempts = draw(st.dictionaries(offsets, st.integers(1, 9), max_size=5))
    return committed, CommitMetadata(attempts=attempts, done=tuple(ranges))


@given(metadata_of_commits())
def test_it_survives_the_broker(given_one: tuple[int, CommitMetadata]) -> None:
    committed, metadata = given_one
    assert decode_metadata(committed, encode_metadata(committed, metadata)) == metadata


@given(metadata_of_commits(max_ranges=200), st.integers(200, 600))
def test_only_the_far_end_is_cut_off(given_one: tuple[int, CommitMetadata], room: int) -> None:
    committed, metadata = given_one
    text = encode_metadata(committed, metadata, room)
    found = decode_metadata(committed, text)
    assert len(text) <= room
    assert found.done == metadata.done[: len(found.done)]
    assert found.attempts == metadata.attempts
    if found.done != metadata.done:
        assert len(text) > room - 24, "there was room for more"


def test_a_thousand_scattered_records_fit() -> None:
    metadata = CommitMetadata(done=tuple((offset, 1) for offset in range(1, 3_000, 2)))
    text = encode_metadata(0, metadata)
    assert len(text) <= MAX_METADATA
    assert len(decode_metadata(0, text).done) == 1_500


def test_commits_of_the_last_release_are_read() -> None:
    """Their reserved offsets and deaths say nothing any more; attempts and finished ranges do."""
    text = "1:QAIyAQIDBAUKAw=="  # reserved up to 164, two deaths, suspects up to 150
    assert decode_metadata(100, text) == CommitMetadata(attempts={102: 3}, done=((104, 5), (119, 3)))


@given(
    st.one_of(
        st.text(max_size=200),
        st.text(string.ascii_letters + string.digits, max_size=80).map("1:".__add__),
        st.text(string.ascii_letters + string.digits, max_size=80).map("2:".__add__),
    )
)
def test_foreign_metadata_says_nothing_and_breaks_nothing(text: str) -> None:
    found = decode_metadata(100, text)
    assert all(first >= 100 and count >= 0 for first, count in found.done)


def test_no_metadata_blames_nothing() -> None:
    assert decode_metadata(7, "") == CommitMetadata()
