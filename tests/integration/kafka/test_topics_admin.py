"""`consuma topics` against a real broker."""

import asyncio

import pytest
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaError
from structlog.testing import capture_logs

from shared.kafka import header_names, topic_status, topics_admin
from shared.kafka.commit_metadata import CommitMetadata, encode_metadata
from shared.kafka.topics import Topic, topic_name
from shared.settings import KafkaSettings, ServiceSettings
from tests.integration.kafka.support import commit_of, feed, until
from tests.integration.kafka.test_positions import commit_by_hand

pytestmark = pytest.mark.kafka


async def configuration(settings: KafkaSettings, topic: Topic) -> dict[str, str]:
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.kafka)
    await admin.start()
    try:
        resource = ConfigResource(ConfigResourceType.TOPIC, topic_name(settings, topic), None)
        (response,) = await admin.describe_configs([resource])
        return {entry[0]: entry[1] for entry in response.resources[0][4]}
    finally:
        await admin.close()


async def test_everything_is_created_once(settings: ServiceSettings) -> None:
    assert await topics_admin.apply(settings) == []
    found = await configuration(settings, Topic.REQUESTS)
    assert found["compression.type"] == "uncompressed"
    assert found["message.timestamp.type"] == "LogAppendTime"
    assert found["max.message.bytes"] == str(1_280 * 1_024)
    status = {each.name: each for each in await topic_status.show(settings)}
    assert len(status) == len(Topic)
    results = status[topic_name(settings, Topic.RESULTS)]
    assert (len(results.partitions), results.records, results.lag("callback")) == (8, 0, 0)


async def test_two_may_apply_at_once(settings: ServiceSettings) -> None:
    twin = settings.model_copy(update={"topic_prefix": f"{settings.topic_prefix}twin."})
    await asyncio.gather(topics_admin.apply(twin), topics_admin.apply(twin))
    assert await topics_admin.apply(twin) == []


async def test_a_setting_that_differs_is_mended_and_others_are_kept(settings: ServiceSettings) -> None:
    name = topic_name(settings, Topic.REQUESTS)
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.kafka)
    await admin.start()
    changed = {"retention.ms": "60000", "segment.bytes": "104857600"}
    await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, name, changed)])
    await admin.close()

    async def retained_ms(wanted: int) -> bool:
        return (await configuration(settings, Topic.REQUESTS))["retention.ms"] == str(wanted)

    await until(lambda: retained_ms(60_000))
    changes = await topics_admin.apply(settings)
    assert f"set {name} retention.ms={settings.retention_ms}" in changes
    await until(lambda: retained_ms(settings.retention_ms))
    found = await configuration(settings, Topic.REQUESTS)
    assert found["segment.bytes"] == "104857600"
    assert found["message.timestamp.type"] == "LogAppendTime"


async def test_another_number_of_partitions_is_refused(settings: ServiceSettings) -> None:
    with pytest.raises(topics_admin.TopicConflictError, match="CONSUMA_PARTITIONS"):
        await topics_admin.apply(settings.model_copy(update={"partitions": 9}))


async def test_a_position_is_never_moved_and_a_missing_one_is_made(settings: ServiceSettings) -> None:
    await feed(settings, [b"x"] * 5)
    await commit_by_hand(settings, "callback", {0: 3})
    assert await topics_admin.apply(settings) == []
    assert (await commit_of(settings, 0))[0] == 3
    status = {each.name: each for each in await topic_status.show(settings)}
    assert status[topic_name(settings, Topic.RESULTS)].lag("callback") == 2


async def test_a_topic_that_was_deleted_is_made_again_with_its_positions(settings: ServiceSettings) -> None:
    fresh = settings.model_copy(update={"topic_prefix": f"{settings.topic_prefix}fresh."})
    await topics_admin.apply(fresh)
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.kafka)
    await admin.start()
    try:
        await admin.delete_topics([topic_name(fresh, Topic.RESULTS)])
        await until(lambda: is_gone(admin, topic_name(fresh, Topic.RESULTS)))
    finally:
        await admin.close()
    shown = {each.name for each in await topic_status.show(fresh)}
    assert topic_name(fresh, Topic.RESULTS) not in shown
    changes = await topics_admin.apply(fresh)
    assert changes[0] == f"created {topic_name(fresh, Topic.RESULTS)}"
    assert changes[1].startswith("committed the start of 8 partitions")


async def is_gone(admin: AIOKafkaAdminClient, name: str) -> bool:
    return name not in await admin.list_topics()


async def test_a_producer_gets_a_topic_for_its_replies(settings: ServiceSettings) -> None:
    for _ in range(2):
        name = await topics_admin.create_replies(settings, "mine")
    assert name == f"{settings.topic_prefix}replies.mine"
    with pytest.raises(KafkaError, match="could not be created"):
        await topics_admin.create_replies(settings, "not a name")


async def test_the_oldest_unfinished_record_and_blamed_ones_are_shown(settings: ServiceSettings) -> None:
    fed = await feed(settings, [b"x"] * 5)
    metadata = CommitMetadata(attempts={3: 2})
    await commit_by_hand(settings, "callback", {0: 3}, encode_metadata(3, metadata))
    status = {each.name: each for each in await topic_status.show(settings)}
    found = status[topic_name(settings, Topic.RESULTS)]
    group = found.partitions[0].groups["callback"]
    assert (group.committed, group.lag, group.blamed) == (3, 2, {3: 2})
    assert group.oldest_age_s is not None
    assert 0 <= group.oldest_age_s < 60
    assert found.oldest_age_s("callback") == group.oldest_age_s
    assert found.partitions[1].groups["callback"].oldest_age_s is None
    assert len(fed) == 5


async def test_damaged_bytes_hide_the_age_of_their_own_partition_alone(
    settings: ServiceSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    tolerant = header_names.TolerantRecords
    monkeypatch.setattr(
        header_names,
        "TolerantRecords",
        lambda data: tolerant(data.replace(b"to-be-damaged", b"TO-BE-DAMAGED")),
    )
    for number, value in enumerate((b"to-be-damaged", b"whole")):
        await feed(settings, [value], partition=number)
    with capture_logs() as logs:
        status = {each.name: each for each in await topic_status.show(settings)}
    first, second = status[topic_name(settings, Topic.RESULTS)].partitions[:2]
    assert (first.groups["callback"].lag, first.groups["callback"].oldest_age_s) == (1, None)
    assert second.groups["callback"].oldest_age_s is not None
    assert [(each["event"], each["partition"]) for each in logs] == [("topics.unreadable", 0)]
