"""Requests as submitters write them, from any Kafka client or from ingest.

Three shapes are read: CloudEvents in binary mode, CloudEvents in structured mode, and bare JSON. Whatever
the shape, the id is derived from what the producer says of itself, so that a repeated record is the same
request; every reader of the log derives the same one.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Final

import msgspec

from shared.domain.identity import canonical_uuid, id_of_position, id_of_reference
from shared.domain.requests import RequestSubmitted
from shared.domain.types import JsonBytes, Mode, RequestId
from shared.events.codec import EncodedEvent, Origin
from shared.events.envelope import Envelope, Headers, envelope_of, format_time, text_of, write
from shared.events.request_data import (
    MAX_NAME,
    MAX_REFERENCE,
    FieldProblem,
    RequestData,
    SubmissionError,
    invalid_request,
    parse_strictly,
    read_request_data,
    request_digest,
)
from shared.events.submit_keys import NO_KEYS, SIGNATURE_HEADER, Signed, SubmitKeys
from shared.kafka.records import Record

__all__ = [
    "INGEST_SOURCE",
    "MAX_HEADERS",
    "MAX_HEADER_BYTES",
    "STRUCTURED",
    "SUBMITTED_TYPE",
    "FieldProblem",
    "Opened",
    "ReplyTo",
    "RequestData",
    "Submission",
    "SubmissionError",
    "decode_submission",
    "encode_submission",
    "open_record",
    "read_submission",
]

SUBMITTED_TYPE: Final = "consuma.request.submitted.v1"
INGEST_SOURCE: Final = "/consuma/ingest"
DEFAULT_SOURCE: Final = "kafka"
STRUCTURED: Final = "application/cloudevents+json"

MAX_HEADERS: Final = 256
"""More than twice of what HTTP servers and proxies pass on, so that tracing and routing have room."""

MAX_HEADER_BYTES: Final = 64 * 1024


class _Structured(msgspec.Struct, frozen=True, kw_only=True):
    """A CloudEvent in structured mode."""

    id: str
    source: str
    type: str
    specversion: str
    data: msgspec.Raw
    time: str = ""
    subject: str | None = None
    traceparent: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplyTo:
    """Where a submitter waits for the answer. `partition` is None for a producer's own topic."""

    topic: str
    correlation_id: bytes
    partition: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """A decoded record of a request topic."""

    request: RequestSubmitted
    reply_to: ReplyTo | None = None
    traceparent: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """What the headers of a record say. `kept_id` is the id that ingest gave, where ingest wrote it."""

    structured: bool = False
    envelope: Envelope | None = None
    reply_to: ReplyTo | None = None
    traceparent: str | None = None
    kept_id: RequestId | None = None


def decode_submission(
    record: Record, mode: Mode, keys: SubmitKeys = NO_KEYS, *, with_digest: bool = True
) -> Submission:
    """The request in a record of `requests` (async) or `requests.sync` (sync).

    Args:
        record: as fetched.
        mode: what its topic stands for.
        keys: by which ingest's records are known.
        with_digest: whether a digest that the record does not hold is computed.

    Raises:
        SubmissionError: the record is no request.
    """
    opened = open_record(record, mode, keys)
    return read_submission(record, mode, opened, with_digest=with_digest)


def open_record(record: Record, mode: Mode, keys: SubmitKeys) -> Opened:
    """What the headers of `record` say; takes no longer than its value's bytes take to be hashed.

    Raises:
        SubmissionError: they are too many, or name another type of event.
    """
    _check_headers(record.headers)
    first, last = _by_name(record.headers)
    reply_to = _reply_to(first)
    if text_of(first.get("content-type", b"")).lower().startswith(STRUCTURED):
        return Opened(structured=True, reply_to=reply_to)
    envelope = envelope_of(last)
    if envelope is None:
        return Opened(reply_to=reply_to, traceparent=text_of(first.get("traceparent", b"")) or None)
    _check_type(envelope.type)
    kept_id = canonical_uuid(envelope.subject or "") if envelope.source == INGEST_SOURCE else None
    if kept_id is not None:
        about = _signed(kept_id, mode, reply_to)
        signature = last.get(SIGNATURE_HEADER)
        taken_ms = record.timestamp_ms if record.log_append_time else None
        if not keys.believe(signature, about, record.value or b"", taken_ms):
            kept_id = None
    return Opened(envelope=envelope, reply_to=reply_to, traceparent=envelope.traceparent, kept_id=kept_id)


def read_submission(record: Record, mode: Mode, opened: Opened, *, with_digest: bool) -> Submission:
    """The request in `record`, whose headers are `opened`.

    Raises:
        SubmissionError: the record is no request.
    """
    envelope, traceparent, body = opened.envelope, opened.traceparent, record.value or b""
    parse_strictly(body)
    event = _read_structured(body) if opened.structured else None
    if event is not None:
        envelope, traceparent = Envelope(id=event.id, type=event.type, source=event.source), event.traceparent
    data = read_request_data(event.data if event else body)
    request_id, source, reference = _identify(opened.kept_id, envelope, data, record)
    digest = data.digest if opened.kept_id else None
    request = RequestSubmitted(
        request_id=request_id,
        mode=mode,
        source=source,
        operation=data.operation,
        accepted_at_ms=record.timestamp_ms,
        input=JsonBytes(memoryview(data.input)),
        digest=digest or (request_digest(data) if with_digest else ""),
        callback_url=data.callback_url if mode is Mode.ASYNC else None,
        client_reference=reference,
        timeout_ms=None if data.timeout is None else max(1, round(data.timeout * 1000)),
        expires_at_ms=None if data.expires_at is None else round(data.expires_at.timestamp() * 1000),
    )
    return Submission(request=request, reply_to=opened.reply_to, traceparent=traceparent)


def encode_submission(
    request_id: RequestId,
    data: RequestData,
    origin: Origin,
    mode: Mode,
    reply_to: ReplyTo | None = None,
    keys: SubmitKeys = NO_KEYS,
) -> EncodedEvent:
    """A submission as ingest writes it: its id is kept as it is by whoever has one of `keys`."""
    envelope = Envelope(
        id=origin.event_id,
        type=SUBMITTED_TYPE,
        source=INGEST_SOURCE,
        time=format_time(origin.now_ms),
        subject=request_id,
        traceparent=origin.traceparent,
    )
    extensions = (("mode", mode), ("requestsource", data.source or ""), ("operation", data.operation))
    value = _encoder.encode(data)
    signature = keys.sign(_signed(request_id, mode, reply_to), value)
    signed: Headers = () if signature is None else ((SIGNATURE_HEADER, signature),)
    return EncodedEvent(
        key=request_id.encode(),
        value=value,
        headers=write(envelope, extensions) + _reply_headers(reply_to) + signed,
    )


def _check_headers(headers: Headers) -> None:
    """Refuse what would take long to read, without a look at each of several hundred thousand headers."""
    if len(headers) > MAX_HEADERS:
        raise SubmissionError(
            "too_many_headers", f"{len(headers)} headers; a record may have at most {MAX_HEADERS}"
        )
    size = sum(map(len, chain.from_iterable(headers)))
    if size > MAX_HEADER_BYTES:
        raise SubmissionError(
            "too_many_headers", f"headers of {size} bytes; a record may have at most {MAX_HEADER_BYTES}"
        )


def _read_structured(value: bytes) -> _Structured:
    try:
        event = _structured_decoder.decode(value)
    except msgspec.ValidationError as error:
        raise SubmissionError("invalid_envelope", f"not a CloudEvent: {error}") from None
    _check_type(event.type)
    return event


def _check_type(event_type: str) -> None:
    if event_type != SUBMITTED_TYPE:
        raise SubmissionError(
            "unknown_event_type", f"event type {event_type[:128]!r} is not {SUBMITTED_TYPE!r}"
        )


def _signed(request_id: RequestId, mode: Mode, reply_to: ReplyTo | None) -> Signed:
    """What of a record is signed besides its value."""
    if reply_to is None:
        return request_id, mode
    partition = "" if reply_to.partition is None else str(reply_to.partition)
    return request_id, mode, reply_to.topic, partition, reply_to.correlation_id.hex()


def _identify(
    kept_id: RequestId | None, envelope: Envelope | None, data: RequestData, record: Record
) -> tuple[RequestId, str, str | None]:
    """Id, source and the submitter's own reference of a request."""
    if kept_id is not None:
        return kept_id, data.source or INGEST_SOURCE, data.client_reference
    source = (envelope.source if envelope else None) or data.source or DEFAULT_SOURCE
    reference = (envelope.id if envelope else None) or data.id
    _check_names(source, reference)
    if reference:
        return id_of_reference(source, reference), source, reference
    position = (record.topic, record.partition, record.offset, record.timestamp_ms)
    return id_of_position(*position), source, data.client_reference


def _check_names(source: str, reference: str | None) -> None:
    if len(source) > MAX_NAME:
        raise invalid_request([("source", f"longer than {MAX_NAME} characters")])
    if reference and len(reference) > MAX_REFERENCE:
        raise invalid_request([("id", f"longer than {MAX_REFERENCE} characters")])


def _by_name(headers: Headers) -> tuple[dict[str, bytes], dict[str, bytes]]:
    """Headers by their names in lower case: the first and the last of each name."""
    last = {name.lower(): value for name, value in headers}
    if len(last) == len(headers):
        return last, last
    return {name.lower(): value for name, value in reversed(headers)}, last


def _reply_to(first: Mapping[str, bytes]) -> ReplyTo | None:
    topic = text_of(first.get("reply-topic", b""))
    if not topic:
        return None
    partition = text_of(first.get("reply-partition", b""))
    return ReplyTo(
        topic=topic,
        correlation_id=first.get("correlation-id", b""),
        partition=int(partition) if _PARTITION.fullmatch(partition) else None,
    )


def _reply_headers(reply_to: ReplyTo | None) -> Headers:
    if reply_to is None:
        return ()
    headers: Headers = (
        ("reply-topic", reply_to.topic.encode()),
        ("correlation-id", reply_to.correlation_id),
    )
    if reply_to.partition is None:
        return headers
    return (*headers, ("reply-partition", str(reply_to.partition).encode()))


_PARTITION: Final = re.compile(r"[0-9]{1,9}")
_encoder: Final = msgspec.json.Encoder()
_structured_decoder: Final = msgspec.json.Decoder(_Structured)
