"""Topics as code: make the broker's topics what the table says, and give every group a start position."""

import asyncio
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, OffsetAndMetadata, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import CommitFailedError, KafkaError

from shared.kafka.ending import start_whole
from shared.kafka.positions import admin_client, committed_offsets
from shared.kafka.records import Partition
from shared.kafka.topics import Topic, TopicSpec, topic_name, topic_table
from shared.settings import KafkaSettings

__all__ = ["TopicConflictError", "apply", "create_replies"]

TIMEOUT_S: Final = 30.0
TOPIC_ALREADY_EXISTS: Final = 36
MIN_INSYNC_FROM_REPLICATION: Final = 3


class TopicConflictError(Exception):
    """What exists cannot be changed in place."""


async def apply(settings: KafkaSettings) -> list[str]:
    """Create and configure every topic, commit missing start positions; returns what was changed, in words.

    Safe to repeat and to run twice at once.

    Raises:
        TopicConflictError: a topic has another number of partitions than the settings say, or a group that
            lacks a position is at work.
        KafkaError, TimeoutError: the broker did not answer.
    """
    specs = topic_table(settings)
    async with asyncio.timeout(TIMEOUT_S), admin_client(settings) as admin:
        existing = await _describe(admin, settings, specs)
        _refuse_other_counts(settings, specs, existing)
        changes = await _create_missing(admin, settings, specs, existing)
        for spec in specs:
            if spec.topic in existing:
                changes += await _configure(admin, settings, spec)
        await _wait_until_led(admin, settings, specs)
    for group in sorted({group for spec in specs for group in spec.groups}):
        changes += await _commit_start(settings, group, [s for s in specs if group in s.groups])
    return changes


async def create_replies(settings: KafkaSettings, name: str) -> str:
    """Create a topic that a producer can name for its replies, unless it exists; returns its full name.

    Raises:
        KafkaError, TimeoutError: the broker did not answer, or refuses the name.
    """
    full_name = f"{topic_name(settings, Topic.REPLIES)}.{name}"
    config = next(_config(settings, spec) for spec in topic_table(settings) if spec.topic is Topic.REPLIES)
    new = NewTopic(full_name, 1, settings.replication, topic_configs=config)
    async with asyncio.timeout(TIMEOUT_S), admin_client(settings) as admin:
        _check_created(await admin.create_topics([new]))
    return full_name


async def _describe(
    admin: AIOKafkaAdminClient, settings: KafkaSettings, specs: tuple[TopicSpec, ...]
) -> dict[str, int]:
    """Partition counts of the topics that exist."""
    wanted = {topic_name(settings, spec.topic): spec for spec in specs}
    present = [name for name in await admin.list_topics() if name in wanted]
    described = await admin.describe_topics(present) if present else []
    return {wanted[entry["topic"]].topic: len(entry["partitions"]) for entry in described}


def _refuse_other_counts(
    settings: KafkaSettings, specs: tuple[TopicSpec, ...], existing: dict[str, int]
) -> None:
    for spec in specs:
        count = existing.get(spec.topic, _partitions(settings, spec))
        if count != _partitions(settings, spec):
            raise TopicConflictError(
                f"topic {topic_name(settings, spec.topic)} has {count} partitions, the settings say "
                f"{_partitions(settings, spec)}; set CONSUMA_PARTITIONS to the former, or use another "
                "CONSUMA_TOPIC_PREFIX: keys would change their partition"
            )


async def _create_missing(
    admin: AIOKafkaAdminClient,
    settings: KafkaSettings,
    specs: tuple[TopicSpec, ...],
    existing: dict[str, int],
) -> list[str]:
    missing = [spec for spec in specs if spec.topic not in existing]
    if not missing:
        return []
    _check_created(await admin.create_topics([_new_topic(settings, spec) for spec in missing]))
    return [f"created {topic_name(settings, spec.topic)}" for spec in missing]


def _check_created(response: Any) -> None:  # noqa: ANN401 - the client library is untyped
    for name, code, *rest in response.topic_errors:
        if code not in (0, TOPIC_ALREADY_EXISTS):
            raise KafkaError(f"topic {name} could not be created: error {code} {rest[0] if rest else ''}")


def _new_topic(settings: KafkaSettings, spec: TopicSpec) -> NewTopic:
    return NewTopic(
        topic_name(settings, spec.topic),
        _partitions(settings, spec),
        settings.replication,
        topic_configs=_config(settings, spec),
    )


def _partitions(settings: KafkaSettings, spec: TopicSpec) -> int:
    return settings.partitions if spec.keyed else 1


def _config(settings: KafkaSettings, spec: TopicSpec) -> dict[str, str]:
    config = {
        "max.message.bytes": str(spec.max_bytes),
        "retention.ms": str(spec.retention_ms),
        "cleanup.policy": "delete",
        **spec.config,
    }
    if settings.replication >= MIN_INSYNC_FROM_REPLICATION:
        config["min.insync.replicas"] = "2"
    return config


async def _configure(admin: AIOKafkaAdminClient, settings: KafkaSettings, spec: TopicSpec) -> list[str]:
    """Set what differs; settings of the topic that the table does not name stay as they are."""
    name = topic_name(settings, spec.topic)
    responses = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, name, None)])
    entries = [entry for response in responses for resource in response.resources for entry in resource[4]]
    current = {entry[0]: entry[1] for entry in entries}
    wanted = _config(settings, spec)
    differing = {key: value for key, value in wanted.items() if current.get(key) != value}
    if not differing:
        return []
    own = {entry[0]: entry[1] for entry in entries if _is_topic_config(entry)}
    altered = await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, name, {**own, **wanted})])
    for response in altered:
        for code, message, *_ in response.resources:
            if code:
                raise KafkaError(f"topic {name} could not be configured: error {code} {message or ''}")
    return [f"set {name} {key}={value}" for key, value in sorted(differing.items())]


def _is_topic_config(entry: tuple[object, ...]) -> bool:
    """Whether a described entry was set on the topic: source 1, or not a default in the oldest version."""
    return entry[3] in (1, False) and entry[1] is not None


async def _wait_until_led(
    admin: AIOKafkaAdminClient, settings: KafkaSettings, specs: tuple[TopicSpec, ...]
) -> None:
    """A created topic takes a moment until each of its partitions has a leader."""
    names = [topic_name(settings, spec.topic) for spec in specs]
    while True:
        described = await admin.describe_topics(names)
        if all(
            not entry["error_code"]
            and entry["partitions"]
            and all(partition["leader"] >= 0 for partition in entry["partitions"])
            for entry in described
        ):
            return
        await asyncio.sleep(0.05)


async def _commit_start(settings: KafkaSettings, group: str, specs: list[TopicSpec]) -> list[str]:
    """Commit the start of the log wherever `group` has no position; an existing one is never moved."""
    full_group = f"{settings.topic_prefix}{group}"
    sources = [
        TopicPartition(topic_name(settings, spec.topic), number)
        for spec in specs
        for number in range(_partitions(settings, spec))
    ]
    known = await committed_offsets(settings, full_group, [Partition(*source) for source in sources])
    missing = [source for source in sources if Partition(*source) not in known]
    if not missing:
        return []
    client = AIOKafkaConsumer(bootstrap_servers=settings.kafka, group_id=full_group, enable_auto_commit=False)
    async with asyncio.timeout(TIMEOUT_S):
        try:
            await start_whole(client.start())
            client.assign(missing)
            begins = await client.beginning_offsets(missing)
            await client.commit({source: OffsetAndMetadata(begins[source], "") for source in missing})
        except CommitFailedError as error:
            raise TopicConflictError(
                f"group {full_group} has no position in {len(missing)} partitions, but members at work; "
                f"stop them, wait {settings.session_timeout_ms / 1000:.0f} s, and apply again"
            ) from error
        finally:
            await client.stop()
    return [f"committed the start of {len(missing)} partitions for group {full_group}"]
