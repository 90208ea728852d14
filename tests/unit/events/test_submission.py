"""What direct producers put into headers, and how much of it is believed."""

import json
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from shared.domain.types import Mode, RequestId
from shared.events.codec import Origin
from shared.events.submission import (
    INGEST_SOURCE,
    SUBMITTED_TYPE,
    ReplyTo,
    RequestData,
    decode_submission,
    encode_submission,
)
from shared.kafka.records import Record

GOLDEN = Path(__file__).parent / "golden"


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


DATA = RequestData(
    operation="primes",
    input=msgspec.Raw(b'{"stop": 1.000}'),
    callback_url="https://example.com/hook",
    timeout=2.5,
    expires_at=datetime(2030, 1, 1, tzinfo=UTC),
    client_reference="order-1",
    source="rest",
    digest="0" * 64,
)
ORIGIN = Origin(
    event_id="0191-e",
    source=INGEST_SOURCE,
    now_ms=1_700_000_000_123,
    traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
)
REPLY_TO = ReplyTo(topic="consuma.replies", correlation_id=b"c-1", partition=3)


def test_a_submission_is_written_and_read_as_its_golden_file_says() -> None:
    request_id = RequestId("3f0f3c0e-6c0a-5d3b-9d6e-2f6a1b7c8d90")
    encoded = encode_submission(request_id, DATA, ORIGIN, Mode.SYNC, REPLY_TO)
    written = {
        "key": (encoded.key or b"").decode(),
        "headers": {name: value.decode() for name, value in encoded.headers},
        "value": encoded.value.decode(),
    }
    golden = json.loads((GOLDEN / f"{SUBMITTED_TYPE}.json").read_text(encoding="utf-8"))
    assert written == golden
    headers = tuple((name, value.encode()) for name, value in golden["headers"].items())
    record = Record("consuma.requests.sync", 0, 7, 1_000, None, golden["value"].encode(), headers)
    submission = decode_submission(record, Mode.SYNC)
    assert submission.reply_to == REPLY_TO
    assert submission.traceparent == ORIGIN.traceparent
    request = submission.request
    assert (request.request_id, request.source, request.accepted_at_ms) == (request_id, "rest", 1_000)
    assert (bytes(request.input), request.timeout_ms) == (b'{"stop": 1.000}', 2_500)
    assert (request.expires_at_ms, request.digest) == (1_893_456_000_000, "0" * 64)
    assert request.callback_url is None  # a sync submitter is answered, not called back
