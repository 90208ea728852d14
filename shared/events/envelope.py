"""CloudEvents 1.0 in Kafka's binary mode: attributes in headers, data in the value.

Besides the specification's attributes, every event of a request carries `mode`, `requestsource`,
`operation` and `acceptedat` as extensions, so that readers can route without parsing the data.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

__all__ = [
    "CONTENT_TYPE_JSON",
    "Envelope",
    "Headers",
    "envelope_of",
    "first_header",
    "format_time",
    "read_envelope",
    "text_of",
    "write",
]

Headers = tuple[tuple[str, bytes], ...]

SPEC_VERSION: Final = b"1.0"
CONTENT_TYPE_JSON: Final = b"application/json"

_TRACEPARENT: Final = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """The attributes of one event. `time` is the producer's own claim and is only ever shown."""

    id: str
    type: str
    source: str
    time: str = ""
    subject: str | None = None
    traceparent: str | None = None


def write(envelope: Envelope, extensions: Iterable[tuple[str, str]] = ()) -> Headers:
    """Headers that carry `envelope` and `extensions`.

    A trace's parent comes from strangers: one that is none is left out. It would be handed on from event to
    event, however long, until one fits no topic.
    """
    headers = [
        ("ce_specversion", SPEC_VERSION),
        ("ce_id", envelope.id.encode()),
        ("ce_type", envelope.type.encode()),
        ("ce_source", envelope.source.encode()),
        ("ce_time", envelope.time.encode()),
        ("content-type", CONTENT_TYPE_JSON),
    ]
    if envelope.subject is not None:
        headers.append(("ce_subject", envelope.subject.encode()))
    headers += [(f"ce_{name}", value.encode()) for name, value in extensions]
    if envelope.traceparent is not None and _TRACEPARENT.fullmatch(envelope.traceparent):
        headers.append(("traceparent", envelope.traceparent.encode()))
    return tuple(headers)


def read_envelope(headers: Headers) -> Envelope | None:
    """The envelope in `headers`, or None when they carry none. Undecodable bytes become U+FFFD."""
    return envelope_of({name.lower(): value for name, value in headers})


def envelope_of(values: Mapping[str, bytes]) -> Envelope | None:
    """The same from headers by their names in lower case."""
    if "ce_specversion" not in values:
        return None
    return Envelope(
        id=text_of(values.get("ce_id", b"")),
        type=text_of(values.get("ce_type", b"")),
        source=text_of(values.get("ce_source", b"")),
        time=text_of(values.get("ce_time", b"")),
        subject=None if (subject := values.get("ce_subject")) is None else text_of(subject),
        traceparent=None if (parent := values.get("traceparent")) is None else text_of(parent),
    )


def first_header(headers: Headers, name: str) -> str | None:
    """Text of the first header of that name (lower case), or None."""
    for key, value in headers:
        if key.lower() == name:
            return text_of(value)
    return None


def text_of(value: bytes) -> str:
    """A header's value as text, with U+FFFD for what is none."""
    return value.decode("utf-8", "replace")


def format_time(time_ms: int) -> str:
    """RFC 3339 text, in UTC with milliseconds, of a time in ms since the epoch."""
    return (
        datetime.fromtimestamp(time_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    )
