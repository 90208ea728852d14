"""One member of a group against a real broker."""

import asyncio

import pytest

from shared.kafka import topics_admin
from shared.kafka.consumer import PartitionConsumer, ReleaseRecord
from shared.kafka.records import Partition, Record
from shared.kafka.topics import Topic
from shared.settings import ServiceSettings
from tests.integration.kafka.support import Recorder, commit_of, consuming, feed, replaced, until

pytestmark = pytest.mark.kafka


async def test_every_record_is_handled_once_and_committed(settings: ServiceSettings) -> None:
    fed = [at for number in range(8) for at in await feed(settings, [b"x"] * 100, partition=number)]
    handler = Recorder()
    async with consuming(settings, handler):
        await until(lambda: len(handler.handled) == 800)
    assert sorted(handler.handled) == fed
    for number in range(8):
        assert (await commit_of(settings, number))[0] == 100
    assert {part for parts in handler.assigned for part in parts} == {
        part for parts in handler.revoked for part in parts
    }


async def test_a_slow_record_holds_the_commit_and_nothing_else(settings: ServiceSettings) -> None:
    gate = asyncio.Event()

    async def work(record: Record) -> None:
        if record.offset == 3:
            await gate.wait()

    await feed(settings, [b"x"] * 50)
    handler = Recorder(work)
    async with consuming(settings, handler):
        await until(lambda: len(handler.handled) == 49)

        async def noted() -> bool:
            offset, note = await commit_of(settings, 0)
            return offset == 3 and note.done == ((4, 46),)

        await until(noted)
        gate.set()

        async def passed() -> bool:
            return (await commit_of(settings, 0))[0] == 50

        await until(passed)


async def test_a_fault_is_retried_until_it_heals_while_neighbours_go_on(settings: ServiceSettings) -> None:
    failures: dict[int, list[BaseException]] = {
        5: [OSError("away"), OSError("away")],
        7: [asyncio.CancelledError()],
    }
    order: list[int] = []

    async def work(record: Record) -> None:
        if failures.get(record.offset):
            raise failures[record.offset].pop()
        order.append(record.offset)

    fed = await feed(settings, [b"x"] * 20)
    handler = Recorder(work)
    async with consuming(settings, handler):
        await until(lambda: len(handler.handled) == 20)
    assert sorted(handler.handled) == fed
    assert order[-2:] in ([5, 7], [7, 5])
    assert (await commit_of(settings, 0))[0] == 20


async def test_a_slow_preparation_holds_its_partitions_alone(settings: ServiceSettings) -> None:
    gate = asyncio.Event()

    class Slow(Recorder):
        async def on_assigned(self, partitions: frozenset[Partition]) -> None:
            if any(each.number == 0 for each in partitions):
                await gate.wait()

    await feed(settings, [b"x"] * 10, partition=0)
    await feed(settings, [b"x"] * 10, partition=1)
    handler = Slow()
    async with consuming(settings, handler) as consumer:
        await until(lambda: len(handler.handled) == 10)
        assert not consumer.ready
        assert {number for number, _ in handler.handled} == {1}
        gate.set()
        await until(lambda: len(handler.handled) == 20)
        assert consumer.ready


async def test_a_preparation_that_fails_is_repeated(settings: ServiceSettings) -> None:
    class Flaky(Recorder):
        failures = 1

        async def on_assigned(self, partitions: frozenset[Partition]) -> None:
            if self.failures:
                self.failures -= 1
                raise OSError("away")

    await feed(settings, [b"x"] * 10)
    handler = Flaky()
    async with consuming(settings, handler):
        await until(lambda: len(handler.handled) == 10)


@pytest.mark.outage
@pytest.mark.parametrize("task", ["_fetch_task", "_coordination_task", "_heartbeat_task"])
async def test_a_dead_task_of_the_client_library_is_noticed(settings: ServiceSettings, task: str) -> None:
    """The library would answer nothing for ever, or be thrown out of the group, and look healthy."""
    handler = Recorder()
    async with consuming(settings, handler) as consumer:
        await until(lambda: consumer.ready)
        library = consumer._member._client._client  # type: ignore[union-attr]
        owner = library._fetcher if task == "_fetch_task" else library._coordinator
        before = replaced("consumer")
        getattr(owner, task).cancel()
        await until(lambda: replaced("consumer") > before, timeout_s=5)
        fed = await feed(settings, [b"x"])
        await until(lambda: handler.handled == fed)
        assert consumer.ready


async def test_missing_topics_are_waited_for(settings: ServiceSettings) -> None:
    before = replaced("consumer")
    fresh = settings.model_copy(update={"topic_prefix": f"{settings.topic_prefix}later."})
    handler = Recorder()
    async with consuming(fresh, handler) as consumer:
        await until(lambda: replaced("consumer") > before)
        assert not consumer.ready
        await topics_admin.apply(fresh)
        await feed(fresh, [b"x"])
        await until(lambda: bool(handler.handled))
        assert consumer.ready


async def test_a_record_that_waits_is_left_when_the_service_stops(settings: ServiceSettings) -> None:
    """A handler that waits for long need not hold the stop up; the next owner gets the record."""
    stopping = asyncio.Event()
    waiting = asyncio.Event()

    async def work(record: Record) -> None:
        if record.offset == 1:
            waiting.set()
            await stopping.wait()
            raise ReleaseRecord

    await feed(settings, [b"x"] * 3)
    patient = settings.model_copy(update={"drain_timeout_ms": 60_000})
    handler = Recorder(work)
    async with asyncio.timeout(30), consuming(patient, handler):
        await until(lambda: waiting.is_set() and len(handler.handled) == 2)
        stopping.set()
    heir = Recorder()
    async with consuming(settings, heir):
        await until(lambda: heir.handled == [(0, 1)])


async def test_a_stop_does_not_wait_for_a_broker_that_is_not_there(settings: ServiceSettings) -> None:
    away = settings.model_copy(update={"kafka": "127.0.0.1:1"})
    async with asyncio.timeout(10), consuming(away, Recorder()) as consumer:
        assert not consumer.ready


async def test_an_error_in_the_service_s_own_code_ends_the_run(settings: ServiceSettings) -> None:
    class Broken(Recorder):
        async def on_revoked(self, partitions: frozenset[Partition]) -> None:
            raise RuntimeError("bug")

    consumer = PartitionConsumer(settings, group="callback", topics=[Topic.RESULTS], handler=Broken())
    running = asyncio.create_task(consumer.run())
    await until(lambda: consumer.ready)
    stopping = asyncio.create_task(consumer.stop())
    with pytest.raises(RuntimeError, match="bug"):
        await running
    await stopping
