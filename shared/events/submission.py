"""Requests as submitters write them, from any Kafka client or from ingest.

Three shapes are read: CloudEvents in binary mode, CloudEvents in structured mode, and bare JSON. Whatever
the shape, the id is derived from what the producer says of itself, so that a repeated record is the same
request; every reader of the log derives the same one.
"""

import hashlib
import re
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import msgspec
import orjson

from shared.domain.callback_urls import callback_url_problem
from shared.domain.identity import canonical_uuid, id_of_position, id_of_reference
from shared.domain.requests import RequestSubmitted
from shared.domain.types import JsonText, Mode, RequestId
from shared.events.codec import EncodedEvent, Origin
from shared.events.envelope import Envelope, Headers, first_header, format_time, read_envelope, write
from shared.events.strict_json import HostileJsonError, parse
from shared.kafka.records import Record

__all__ = [
    "INGEST_SOURCE",
    "STRUCTURED",
    "SUBMITTED_TYPE",
    "FieldProblem",
    "ReplyTo",
    "RequestData",
    "Submission",
    "SubmissionError",
    "decode_submission",
    "encode_submission",
    "field_problem",
    "parse_request_data",
    "request_digest",
]

SUBMITTED_TYPE: Final = "consuma.request.submitted.v1"
INGEST_SOURCE: Final = "/consuma/ingest"
DEFAULT_SOURCE: Final = "kafka"
STRUCTURED: Final = "application/cloudevents+json"

MAX_NAME: Final = 128
MAX_REFERENCE: Final = 255
MAX_TIMEOUT_S: Final = 86_400.0

FieldProblem = tuple[str, str]
"""A field's path and what is wrong with it."""


class SubmissionError(ValueError):
    """What was sent is no request. `reason` is a stable code; `fields` says what is wrong where."""

    def __init__(self, reason: str, message: str, fields: tuple[FieldProblem, ...] = ()) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.fields = fields


class RequestData(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """The data of a submission: `timeout` in seconds, `expires_at` as RFC 3339 text."""

    operation: str
    input: msgspec.Raw = msgspec.Raw(b"{}")
    callback_url: str | None = None
    timeout: float | None = None
    expires_at: datetime | None = None
    client_reference: str | None = None
    source: str | None = None
    id: str | None = None
    digest: str | None = None


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


def decode_submission(record: Record, mode: Mode) -> Submission:
    """The request in a record of `requests` (async) or `requests.sync` (sync).

    Raises:
        SubmissionError: the record is no request.
    """
    envelope, body = _open(record.headers, record.value or b"")
    data = parse_request_data(body)
    request_id, source, reference = _identify(envelope, data, record)
    request = RequestSubmitted(
        request_id=request_id,
        mode=mode,
        source=source,
        operation=data.operation,
        accepted_at_ms=record.timestamp_ms,
        input=JsonText(bytes(data.input).decode()),
        digest=data.digest or request_digest(data),
        callback_url=data.callback_url if mode is Mode.ASYNC else None,
        client_reference=reference,
        timeout_ms=None if data.timeout is None else max(1, round(data.timeout * 1000)),
        expires_at_ms=None if data.expires_at is None else round(data.expires_at.timestamp() * 1000),
    )
    traceparent = envelope.traceparent if envelope else first_header(record.headers, "traceparent")
    return Submission(request=request, reply_to=_reply_to(record.headers), traceparent=traceparent)


def encode_submission(
    request_id: RequestId, data: RequestData, origin: Origin, mode: Mode, reply_to: ReplyTo | None = None
) -> EncodedEvent:
    """A submission as ingest writes it: its id is kept as it is."""
    envelope = Envelope(
        id=origin.event_id,
        type=SUBMITTED_TYPE,
        source=INGEST_SOURCE,
        time=format_time(origin.now_ms),
        subject=request_id,
        traceparent=origin.traceparent,
    )
    extensions = (("mode", mode), ("requestsource", data.source or ""), ("operation", data.operation))
    return EncodedEvent(
        key=request_id.encode(),
        value=_encoder.encode(data),
        headers=write(envelope, extensions) + _reply_headers(reply_to),
    )


def parse_request_data(body: bytes) -> RequestData:
    """The data of a submission, checked but for what only the operation knows.

    Raises:
        SubmissionError: it is not JSON that consuma accepts, or a field is wrong.
    """
    try:
        parse(body)
        data = _data_decoder.decode(body)
    except HostileJsonError as error:
        raise SubmissionError("malformed_json", str(error)) from None
    except msgspec.ValidationError as error:
        raise _invalid([field_problem(error)]) from None
    problems = _problems(data)
    if problems:
        raise _invalid(problems)
    return data


def request_digest(data: RequestData) -> str:
    """SHA-256, as hex, of what is asked: equal for two bodies that differ in spelling only."""
    asked = (
        data.operation,
        orjson.loads(bytes(data.input)),
        data.callback_url,
        data.timeout,
        data.expires_at,
        data.client_reference,
    )
    return hashlib.sha256(orjson.dumps(asked, option=orjson.OPT_SORT_KEYS)).hexdigest()


def _open(headers: Headers, value: bytes) -> tuple[Envelope | None, bytes]:
    """The envelope, if there is one, and the data inside it."""
    content_type = first_header(headers, "content-type") or ""
    if content_type.lower().startswith(STRUCTURED):
        return _open_structured(value)
    envelope = read_envelope(headers)
    if envelope is not None:
        _check_type(envelope.type)
    return envelope, value


def _open_structured(value: bytes) -> tuple[Envelope, bytes]:
    try:
        parse(value)
        event = _structured_decoder.decode(value)
    except HostileJsonError as error:
        raise SubmissionError("malformed_json", str(error)) from None
    except msgspec.ValidationError as error:
        raise SubmissionError("invalid_envelope", f"not a CloudEvent: {error}") from None
    _check_type(event.type)
    envelope = Envelope(
        id=event.id, type=event.type, source=event.source, time=event.time, traceparent=event.traceparent
    )
    return envelope, bytes(event.data)


def _check_type(event_type: str) -> None:
    if event_type != SUBMITTED_TYPE:
        raise SubmissionError(
            "unknown_event_type", f"event type {event_type[:128]!r} is not {SUBMITTED_TYPE!r}"
        )


def _identify(
    envelope: Envelope | None, data: RequestData, record: Record
) -> tuple[RequestId, str, str | None]:
    """Id, source and the submitter's own reference of a request."""
    if envelope is not None and envelope.source == INGEST_SOURCE:
        kept = canonical_uuid(envelope.subject or "")
        if kept is not None:
            return kept, data.source or INGEST_SOURCE, data.client_reference
    source = (envelope.source if envelope else None) or data.source or DEFAULT_SOURCE
    reference = (envelope.id if envelope else None) or data.id
    _check_names(source, reference)
    if reference:
        return id_of_reference(source, reference), source, reference
    position = (record.topic, record.partition, record.offset, record.timestamp_ms)
    return id_of_position(*position), source, data.client_reference


def _check_names(source: str, reference: str | None) -> None:
    if len(source) > MAX_NAME:
        raise _invalid([("source", f"longer than {MAX_NAME} characters")])
    if reference and len(reference) > MAX_REFERENCE:
        raise _invalid([("id", f"longer than {MAX_REFERENCE} characters")])


def _problems(data: RequestData) -> list[FieldProblem]:
    problems: list[FieldProblem] = []
    if not 1 <= len(data.operation) <= MAX_NAME:
        problems.append(("operation", f"must have 1 to {MAX_NAME} characters"))
    if data.callback_url is not None and (problem := callback_url_problem(data.callback_url)):
        problems.append(("callback_url", problem))
    if data.timeout is not None and not 0 < data.timeout <= MAX_TIMEOUT_S:
        problems.append(("timeout", f"must be above 0 and at most {MAX_TIMEOUT_S:.0f} seconds"))
    if data.expires_at is not None and data.expires_at.tzinfo is None:
        problems.append(("expires_at", "needs a UTC offset, such as a trailing Z"))
    if data.client_reference is not None and len(data.client_reference) > MAX_REFERENCE:
        problems.append(("client_reference", f"longer than {MAX_REFERENCE} characters"))
    return problems


def _invalid(problems: list[FieldProblem]) -> SubmissionError:
    words = "; ".join(f"{path}: {problem}" for path, problem in problems)
    return SubmissionError("invalid_request", words, tuple(problems))


def field_problem(error: msgspec.ValidationError) -> FieldProblem:
    """`Expected `str`, got `int` - at `$.operation`` as a field and its problem."""
    words, _, path = str(error).partition(" - at ")
    if not path and "required field" in words:
        return words.split("`")[1], "is required"
    if not path and "unknown field" in words:
        return words.split("`")[1], "is not known here"
    return path.strip("`").removeprefix("$.") or "body", words


def _reply_to(headers: Headers) -> ReplyTo | None:
    topic = first_header(headers, "reply-topic")
    if not topic:
        return None
    correlation_id = next((value for name, value in headers if name.lower() == "correlation-id"), b"")
    partition = first_header(headers, "reply-partition") or ""
    return ReplyTo(
        topic=topic,
        correlation_id=correlation_id,
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
_data_decoder: Final = msgspec.json.Decoder(RequestData)
_structured_decoder: Final = msgspec.json.Decoder(_Structured)
