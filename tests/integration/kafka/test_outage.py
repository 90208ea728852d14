"""The broker dies or hangs and comes back; nobody is restarted, nothing that was acknowledged is lost."""

import asyncio
import secrets
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

import pytest

from shared.kafka import topics_admin
from shared.kafka.consumer import PartitionConsumer
from shared.kafka.producer import LogError, LogUnavailable, SendUnknown, SupervisedProducer
from shared.kafka.reader import Follower
from shared.kafka.records import OutgoingRecord, Record
from shared.kafka.topics import Topic, topic_name
from shared.settings import ServiceSettings
from tests.integration.kafka.own_broker import OwnBroker
from tests.integration.kafka.support import Recorder, replaced, report, until

pytestmark = [pytest.mark.kafka, pytest.mark.slow]

SEND_TIMEOUT_MS = 1_500
BUSY_S = 5.0
"""What a busy machine may add; without its bound a send would wait for as long as the broker is away."""


@dataclass
class Traffic:
    """A producer, a consumer and a follower at work, and what became of each record."""

    settings: ServiceSettings
    acknowledged: set[bytes] = field(default_factory=set)
    failures: Counter[str] = field(default_factory=Counter)
    handled: Counter[bytes] = field(default_factory=Counter)
    followed: Counter[bytes] = field(default_factory=Counter)
    slowest_s: float = 0.0
    open_sends: int = 0

    async def work(self, record: Record) -> None:
        self.handled[record.value or b""] += 1

    async def follow(self, follower: Follower) -> None:
        async for records in follower.records():
            self.followed.update(record.value or b"" for record in records)

    async def send(self, producer: SupervisedProducer, value: bytes) -> None:
        self.open_sends += 1
        began = time.monotonic()
        try:
            await producer.send(
                OutgoingRecord(topic=Topic.RESULTS, key=value, value=value), timeout_ms=SEND_TIMEOUT_MS
            )
            self.acknowledged.add(value)
        except (SendUnknown, LogUnavailable) as error:
            self.failures[type(error).__name__] += 1
        self.slowest_s = max(self.slowest_s, time.monotonic() - began)
        self.open_sends -= 1

    async def write(self, producer: SupervisedProducer) -> None:
        async with asyncio.TaskGroup() as sends:
            number = 0
            while True:
                sends.create_task(self.send(producer, str(number).encode()))
                number += 1
                await asyncio.sleep(0.005)

    async def until_more(self, wanted: int = 50) -> None:
        """Everything makes progress: more is acknowledged, handled and followed than now."""
        acknowledged, handled = len(self.acknowledged), len(self.handled)
        followed = len(self.followed)
        await until(
            lambda: (
                len(self.acknowledged) >= acknowledged + wanted
                and len(self.handled) >= handled + wanted
                and len(self.followed) >= followed + wanted
            )
        )


@asynccontextmanager
async def traffic(address: str) -> AsyncIterator[Traffic]:
    settings = ServiceSettings(
        kafka=address,
        topic_prefix=f"t-{secrets.token_hex(4)}.",
        instance="test-0",
        partitions=4,
        session_timeout_ms=6_000,
    )
    await topics_admin.apply(settings)
    state = Traffic(settings)
    async with AsyncExitStack() as stack:
        producer = SupervisedProducer(settings)
        await producer.start()
        stack.push_async_callback(producer.stop)
        name = topic_name(settings, Topic.RESULTS)
        follower = await stack.enter_async_context(Follower(settings, name, partitions=range(4), tail=0))
        consumer = PartitionConsumer(
            settings, group="callback", topics=[Topic.RESULTS], handler=Recorder(state.work)
        )
        tasks = [asyncio.create_task(each) for each in (state.follow(follower), state.write(producer))]
        running = asyncio.create_task(consumer.run())
        await state.until_more()
        yield state
        tasks[1].cancel()
        await asyncio.wait([tasks[1]])
        await until(lambda: set(state.handled) >= state.acknowledged <= set(state.followed))
        tasks[0].cancel()
        await asyncio.wait([tasks[0]])
        assert not running.done(), "the consumer has ended by itself"
        await consumer.stop()
        await running


async def test_a_killed_broker_comes_back(broker: OwnBroker) -> None:
    async with traffic(broker.address) as state:
        broker.kill()
        await until(lambda: sum(state.failures.values()) >= 500)
        most = state.open_sends
        await broker.start()
        opened = time.monotonic()
        await state.until_more(1)
        back_s = time.monotonic() - opened
        await state.until_more()
    repeated = sum(count - 1 for count in state.handled.values())
    unacknowledged = len(set(state.handled) - state.acknowledged)
    report(f"whole {back_s:.1f} s after the port opened; slowest send {state.slowest_s:.1f} s")
    report(
        f"{dict(state.failures)}, {most} sends open; {repeated} handled again, {unacknowledged} written late"
    )
    assert back_s < 10
    assert state.slowest_s < SEND_TIMEOUT_MS / 1000 + BUSY_S


async def test_a_hanging_broker_comes_back(broker: OwnBroker) -> None:
    """Connections stay open and nothing answers: only timeouts tell."""
    async with traffic(broker.address) as state:
        broker.freeze()
        try:
            await until(lambda: sum(state.failures.values()) >= 1_500)
        finally:
            broker.thaw()
        thawed = time.monotonic()
        await state.until_more(1)
        back_s = time.monotonic() - thawed
        await state.until_more()
    report(f"whole {back_s:.1f} s after the broker went on; {dict(state.failures)}")
    assert back_s < 20
    assert state.slowest_s < SEND_TIMEOUT_MS / 1000 + BUSY_S


async def test_a_silent_coordinator_has_the_client_replaced(
    broker: OwnBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client may lose its coordinator for good; nothing is lost with the client."""
    monkeypatch.setattr("shared.kafka.member.SILENT_SESSIONS", 0.3)
    monkeypatch.setattr("shared.kafka.committer.PROOF_OF_LIFE_S", 0.5)
    async with traffic(broker.address) as state:
        before = replaced("consumer")
        broker.kill()
        await until(lambda: replaced("consumer") > before)
        await broker.start()
        await state.until_more()


async def test_a_producer_stops_while_the_broker_is_away(broker: OwnBroker) -> None:
    settings = ServiceSettings(kafka=broker.address, topic_prefix=f"t-{secrets.token_hex(4)}.")
    await topics_admin.apply(settings)
    producer = SupervisedProducer(settings)
    await producer.start()
    record = OutgoingRecord(topic=Topic.RESULTS, key=b"k", value=b"v")
    await producer.send(record)
    broker.kill()
    with pytest.raises(LogError):
        await producer.send(record, timeout_ms=500)
    began = time.monotonic()
    await producer.stop()
    report(f"stopped in {time.monotonic() - began:.1f} s")
    assert time.monotonic() - began < 8
