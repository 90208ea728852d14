"""The AsyncAPI 3 document: every topic with its messages, and what others may send and receive.

`receive` is the side of consuma that reads a topic, `send` the side that writes it.
"""

from collections.abc import Mapping
from importlib.metadata import version
from typing import Any, Final

from shared.events.codec import EVENT_TYPES
from shared.events.schemas import components, schema_name
from shared.events.submission import STRUCTURED, SUBMITTED_TYPE
from shared.kafka.topics import RETRY_TIERS, TIER_DELAY_MS, Topic, TopicSpec, topic_name, topic_table
from shared.settings import KafkaSettings

__all__ = ["MESSAGES", "asyncapi", "asyncapi_yaml"]

Json = dict[str, Any]

BINDING_VERSION: Final = "0.5.0"
OUTCOMES: Final = ("consuma.request.succeeded.v1", "consuma.request.failed.v1")
BARE: Final = "bare-request"
STRUCTURED_REQUEST: Final = "structured-request"
SUBMISSIONS: Final = (SUBMITTED_TYPE, STRUCTURED_REQUEST, BARE)
EXAMPLE: Final[Json] = {"operation": "hash_chain", "input": {"seed": "consuma", "rounds": 1000}}

MESSAGES: Final[Mapping[Topic, tuple[str, tuple[str, ...]]]] = {
    Topic.REQUESTS: ("Requests whose submitter does not wait. Any Kafka client may write here.", SUBMISSIONS),
    Topic.REQUESTS_SYNC: (
        "Requests whose submitter waits: they are computed first. Any Kafka client may write here.",
        SUBMISSIONS,
    ),
    Topic.REQUESTS_CANCELLED: ("Requests that somebody wants stopped.", ("consuma.request.cancelled.v1",)),
    Topic.REQUESTS_DLQ: (
        "Records that could not become a request, that no attempt survived, or that callback could not read.",
        ("consuma.request.dead_lettered.v1",),
    ),
    Topic.RESULTS: (
        "What became of every request. The first outcome of a request counts.",
        ("consuma.request.started.v1", *OUTCOMES),
    ),
    Topic.REPLIES: ("Outcomes for callers of the HTTP API who wait.", OUTCOMES),
    Topic.CALLBACKS: (
        "Facts about callbacks.",
        (
            "consuma.callback.attempted.v1",
            "consuma.callback.delivered.v1",
            "consuma.callback.dead_lettered.v1",
            "consuma.callback.replayed.v1",
            "consuma.callback.discarded.v1",
        ),
    ),
    **{
        topic: (
            f"Callbacks to be made {TIER_DELAY_MS[topic] // 1000} s later.",
            ("consuma.delivery.postponed.v1",),
        )
        for topic in RETRY_TIERS
    },
    Topic.CALLBACKS_DLQ: ("Callbacks that were given up.", ("consuma.delivery.dead_lettered.v1",)),
    Topic.DESTINATIONS: (
        "Destinations that take no callbacks; the last record of a key counts.",
        ("consuma.destination.disabled.v1", "consuma.destination.enabled.v1"),
    ),
    Topic.METRICS: ("Windows of metrics, for consuma's own page; their form is not a contract.", ()),
}
"""What each topic is for, and the types of its records."""

_ENVELOPE: Final[Mapping[str, str]] = {
    "ce_specversion": "Always 1.0.",
    "ce_id": "Id of the event. Of a submission: with ce_source, what makes repeating it safe.",
    "ce_type": "Type and version of the event.",
    "ce_source": "Who wrote it; of a submission, who submits.",
    "ce_time": "RFC 3339 time by the writer's clock; only shown.",
    "ce_subject": "Id of the request, or of the destination.",
    "traceparent": "W3C trace context.",
}
_REPLY: Final[Mapping[str, str]] = {
    "reply-topic": "Topic for the answer; its name must start with the prefix that the installation allows.",
    "correlation-id": "Comes back with the answer.",
}
_SIGNATURE: Final[Mapping[str, str]] = {
    "consuma-signature": "Written by consuma's own API: a claim to be that API is believed only with it.",
}
_EXTENSIONS: Final[Mapping[str, str]] = {
    "ce_mode": "sync or async.",
    "ce_requestsource": "Who submitted the request.",
    "ce_operation": "The request's operation.",
    "ce_acceptedat": "RFC 3339 time of the request's record by the broker's clock.",
}


def asyncapi() -> Json:
    """The document, for the default settings."""
    settings = KafkaSettings.model_construct()
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "consuma",
            "version": version("consuma"),
            "description": (
                "Requests for deterministic, CPU-bound work, their outcomes and their callbacks. Events are "
                "CloudEvents 1.0 in Kafka's binary mode; submissions are also read in structured mode and as "
                "bare JSON, with any key and any partitioner. Read with isolation level read_committed. "
                "`consuma.` is the default prefix of all topics."
            ),
            "license": {"name": "Apache-2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0"},
        },
        "defaultContentType": "application/json",
        "servers": {"local": {"host": "127.0.0.1:9092", "protocol": "kafka"}},
        "channels": {spec.topic.value: _channel(settings, spec) for spec in topic_table(settings)},
        "operations": _operations(),
        "components": {"messages": _messages(), "schemas": {**_components(), "Envelope": _envelope()}},
    }


def asyncapi_yaml() -> str:
    """The same as YAML, always in the same words."""
    import yaml  # only whoever generates needs it

    head = "# Generated by `python -m shared.events.schemas`; do not edit.\n"
    return head + yaml.safe_dump(asyncapi(), sort_keys=False, allow_unicode=True, width=110)


def _channel(settings: KafkaSettings, spec: TopicSpec) -> Json:
    description, types = MESSAGES[spec.topic]
    cleanup = spec.config.get("cleanup.policy", "delete")
    return {
        "address": topic_name(settings, spec.topic),
        "description": description,
        "messages": {name: _reference("messages", name) for name in types},
        "bindings": {
            "kafka": {
                "topic": topic_name(settings, spec.topic),
                "partitions": settings.partitions if spec.keyed else 1,
                "topicConfiguration": {
                    "cleanup.policy": [cleanup],
                    "retention.ms": spec.retention_ms,
                    "max.message.bytes": spec.max_bytes,
                },
                "bindingVersion": BINDING_VERSION,
            }
        },
    }


def _operations() -> Json:
    return {
        "submit": _operation(Topic.REQUESTS, "receive", "Submit a request and do not wait.", reply=True),
        "submitAndWait": _operation(
            Topic.REQUESTS_SYNC, "receive", "Submit a request that is computed first.", reply=True
        ),
        "outcome": _operation(Topic.RESULTS, "send", "What became of every request."),
        "refused": _operation(Topic.REQUESTS_DLQ, "send", "Records that are no requests, with the reason."),
        "callbackFact": _operation(Topic.CALLBACKS, "send", "What came of every callback."),
    }


def _operation(topic: Topic, action: str, summary: str, *, reply: bool = False) -> Json:
    channel = {"$ref": f"#/channels/{_escaped(topic.value)}"}
    operation: Json = {"action": action, "channel": channel, "summary": summary}
    if reply:
        location = {"location": "$message.header#/reply-topic", "description": _REPLY["reply-topic"]}
        operation["reply"] = {"address": location}
    return operation


def _messages() -> Json:
    return {
        SUBMITTED_TYPE: _message(
            SUBMITTED_TYPE, _headers({**_ENVELOPE, **_REPLY, **_SIGNATURE}), "A submission in binary mode."
        ),
        STRUCTURED_REQUEST: {
            "name": STRUCTURED_REQUEST,
            "summary": "A submission in structured mode.",
            "contentType": STRUCTURED,
            "headers": _headers({"content-type": f"`{STRUCTURED}`.", **_REPLY}),
            "payload": _reference("schemas", "Envelope"),
        },
        BARE: {
            "name": BARE,
            "summary": "A submission as plain JSON, without any header.",
            "contentType": "application/json",
            "headers": _headers(_REPLY),
            "payload": _reference("schemas", schema_name(SUBMITTED_TYPE)),
            "examples": [{"payload": EXAMPLE}],
        },
        **{type_: _message(type_, _headers({**_ENVELOPE, **_EXTENSIONS})) for type_ in EVENT_TYPES},
    }


def _message(type_: str, headers: Json, summary: str = "") -> Json:
    schema = _components()[schema_name(type_)]
    return {
        "name": type_,
        "summary": summary or schema["description"],
        "contentType": "application/json",
        "headers": headers,
        "payload": _reference("schemas", schema_name(type_)),
        "bindings": {"kafka": {"key": {"type": "string"}, "bindingVersion": BINDING_VERSION}},
    }


def _headers(words: Mapping[str, str]) -> Json:
    properties = {name: {"type": "string", "description": each} for name, each in words.items()}
    return {"type": "object", "properties": properties}


def _envelope() -> Json:
    """A submission in structured mode."""
    attributes = {name: {"type": "string", "minLength": 1} for name in ("id", "source")}
    return {
        "title": "CloudEvent",
        "type": "object",
        "properties": {
            "specversion": {"const": "1.0"},
            **attributes,
            "type": {"const": SUBMITTED_TYPE},
            "time": {"type": "string", "format": "date-time"},
            "subject": {"type": "string"},
            "traceparent": {"type": "string"},
            "data": _reference("schemas", schema_name(SUBMITTED_TYPE)),
        },
        "required": ["specversion", "id", "source", "type", "data"],
    }


def _components() -> Json:
    return dict(components("#/components/schemas/{name}"))


def _reference(kind: str, name: str) -> Json:
    return {"$ref": f"#/components/{kind}/{_escaped(name)}"}


def _escaped(name: str) -> str:
    return name.replace("~", "~0").replace("/", "~1")
