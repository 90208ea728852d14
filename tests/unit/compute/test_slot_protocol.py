"""Frames survive however their bytes arrive; what is no frame is refused."""

from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.compute.slot_protocol import (
    LENGTHS,
    MAX_HEADER_BYTES,
    FrameError,
    FrameReader,
    TaskReply,
    pack_frame,
)

MAX_BODY: Final = 1000

bodies: Final = st.lists(st.binary(max_size=MAX_BODY), max_size=6)


def reply(number: int) -> TaskReply:
    return TaskReply(number=number, kind="completed")


@given(bodies=bodies, cuts=st.lists(st.integers(0, 7000)))
def test_frames_come_out_as_they_went_in(bodies: list[bytes], cuts: list[int]) -> None:
    stream = b"".join(pack_frame(reply(number), body) for number, body in enumerate(bodies))
    ends = [*sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    reader = FrameReader(MAX_BODY)
    told: list[bytes] = []
    for begin, end in zip([0, *ends], ends, strict=False):
        told += [body for _, body in reader.feed(stream[begin:end])]
    assert told == bodies


@given(data=st.binary(max_size=300))
def test_any_bytes_are_frames_or_refused(data: bytes) -> None:
    try:
        total = sum(
            LENGTHS.size + len(header) + len(body) for header, body in FrameReader(MAX_BODY).feed(data)
        )
    except FrameError:
        return
    assert total <= len(data)


@pytest.mark.parametrize("lengths", [(MAX_HEADER_BYTES + 1, 0), (0, MAX_BODY + 1), (2**32 - 1, 2**32 - 1)])
def test_a_length_beyond_the_limit_is_refused_before_its_bytes_are_held(lengths: tuple[int, int]) -> None:
    with pytest.raises(FrameError):
        list(FrameReader(MAX_BODY).feed(LENGTHS.pack(*lengths)))
