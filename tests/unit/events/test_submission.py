"""What direct producers put into headers, and how much of it is believed."""

import pytest

from shared.domain.types import Mode
from shared.events.submission import ReplyTo, decode_submission
from shared.kafka.records import Record


def reply_to(*headers: tuple[str, bytes]) -> ReplyTo | None:
    record = Record("t.requests", 0, 7, 1_000, None, b'{"operation":"x"}', headers)
    return decode_submission(record, Mode.ASYNC).reply_to


def test_who_names_no_topic_wants_no_reply() -> None:
    assert reply_to(("correlation-id", b"1")) is None


def test_topic_correlation_and_partition_are_taken_from_headers_of_any_case() -> None:
    found = reply_to(
        ("Reply-Topic", b"t.replies.me"), ("Correlation-ID", b"\x00\xff"), ("reply-partition", b"3")
    )
    assert found == ReplyTo(topic="t.replies.me", correlation_id=b"\x00\xff", partition=3)


@pytest.mark.parametrize("partition", [b"", b"-1", b"1.0", b" 1", b"x", "\u0663".encode(), b"9" * 5_000])
def test_a_partition_that_is_none_does_not_fail_the_request(partition: bytes) -> None:
    """Python refuses to read an integer of thousands of digits; such a header once stopped its record."""
    found = reply_to(("reply-topic", b"t.replies.me"), ("reply-partition", partition))
    assert found == ReplyTo(topic="t.replies.me", correlation_id=b"", partition=None)
