"""CloudEvents 1.0 in Kafka's binary mode: attributes in headers, data in the value.

Besides the specification's attributes, every event of a request carries `mode`, `requestsource`,
`operation` and `acceptedat` as extensions, so that readers can route without parsing the data.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

__all__ = [
    "CONTENT_TYPE_JSON",
    "Envelope",
    "Headers",
    "first_header",
    "format_time",
    "read_envelope",
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
    values = {name.lower(): value.decode("utf-8", "replace") for name, value in headers}
    if "ce_specversion" not in values:
        return None
    return Envelope(
        id=values.get("ce_id", ""),
        type=values.get("ce_type", ""),
        source=values.get("ce_source", ""),
        time=values.get("ce_time", ""),
        subject=values.get("ce_subject"),
        traceparent=values.get("traceparent"),
    )


def first_header(headers: Headers, name: str) -> str | None:
    """Text of the first header of that name (lower case), or None."""
    for key, value in headers:
        if key.lower() == name:
            return value.decode("utf-8", "replace")
    return None


def format_time(time_ms: int) -> str:
    """RFC 3339 text, in UTC with milliseconds, of a time in ms since the epoch."""
    return (
        datetime.fromtimestamp(time_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    )
