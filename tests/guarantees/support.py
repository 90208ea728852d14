"""A whole system of one's own, requests for it, and what came of them."""

import secrets
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import orjson
from aiokafka import AIOKafkaProducer
from pydantic import SecretStr
from sqlalchemy.engine import URL

from infra.local.services import SERVICES, ServiceSpec
from infra.local.settings import LocalSettings
from infra.local.system import System
from shared.domain.identity import id_of_reference
from shared.events.codec import Event, decode
from shared.kafka.reader import read_tail
from shared.kafka.records import Partition
from shared.kafka.topics import Topic, topic_name
from shared.settings import KafkaSettings
from shared.testing.receiver_calls import ReceiverCalls
from tests.conftest import drop_database
from tests.integration.kafka.support import delete_topics
from tests.support.waiting import until

__all__ = ["PATIENCE_S", "SECRET", "all_called", "append", "events_in", "running_system", "system_log"]

PATIENCE_S: Final = 90.0

FEWER: Final = [replace(each, instances=min(each.instances, 2)) for each in SERVICES]
"""As `consuma up` runs them, but for half of the compute processes: what is promised holds for any number."""

SECRET: Final = "whsec_" + "c2VjcmV0IG9mIHRoZSBndWFyYW50ZWUgdGVzdHM="


def system_log(kafka_address: str) -> KafkaSettings:
    """Topics of one's own, on a group whose dead members are noticed soon."""
    return KafkaSettings(
        kafka=kafka_address, topic_prefix=f"g-{secrets.token_hex(4)}.", session_timeout_ms=10_000
    )


@asynccontextmanager
async def running_system(
    log: KafkaSettings,
    mysql_server: URL,
    directory: Path,
    *,
    services: Iterable[ServiceSpec] = FEWER,
    environment: Mapping[str, str] | None = None,
) -> AsyncIterator[System]:
    """Every service as a process, on the session's broker and database."""
    name = f"consuma_test_{secrets.token_hex(4)}"
    database = mysql_server.set(database=name).render_as_string(hide_password=False)
    settings = LocalSettings(data_dir=directory, kafka=log.kafka, mysql=SecretStr(database), listen_port=0)
    own = {"CONSUMA_WEBHOOK_SECRETS": SECRET, **(environment or {})}
    try:
        async with System(settings, log=log, services=services, environment=own) as system:
            yield system
    finally:
        await delete_topics(log)
        drop_database(mysql_server, name)


async def append(
    log: KafkaSettings,
    requests: Sequence[Mapping[str, Any]],
    *,
    source: str,
    url: str,
    partition: int | None = None,
) -> None:
    """Requests of `source` in this order, to be called back at `url`; into one partition if it is given."""
    topic = topic_name(log, Topic.REQUESTS)
    producer = AIOKafkaProducer(bootstrap_servers=log.kafka, acks="all", linger_ms=5)
    await producer.start()
    try:
        for each in requests:
            value = orjson.dumps({**each, "source": source, "callback_url": url})
            await producer.send(topic, value, partition=partition)
        await producer.flush()
    finally:
        await producer.stop()


async def all_called(
    calls: ReceiverCalls, source: str, references: Sequence[str], timeout_s: float = PATIENCE_S
) -> list[dict[str, Any]]:
    """The first callback of each of these requests, once all of them have come."""
    ids = [id_of_reference(source, each) for each in references]
    await until(lambda: calls.calls().keys() >= set(ids), timeout_s)
    return [orjson.loads(calls.calls()[each][0].body) for each in ids]


async def events_in(log: KafkaSettings, topic: Topic) -> list[Event]:
    """What the last records of each partition of a topic say."""
    name = topic_name(log, topic)
    return [
        decode(record.headers, record.value)[1]
        for number in range(log.partitions)
        async for record in read_tail(log, Partition(name, number), last=100)
    ]
