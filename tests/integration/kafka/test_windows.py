"""What fits a partition's window, what is passed over, and what need not be fetched just now."""

import asyncio

import pytest

from shared.kafka.idle_pause import PAUSED_S
from shared.kafka.records import Record
from shared.kafka.topics import Topic
from shared.settings import ServiceSettings
from tests.integration.kafka.support import Recorder, commit_of, consuming, feed, until

pytestmark = pytest.mark.kafka


async def stuck(record: Record) -> None:
    """The head of the partition is never done."""
    if record.offset == 0:
        await asyncio.Event().wait()


async def test_what_was_finished_beyond_the_commit_is_not_repeated(settings: ServiceSettings) -> None:
    await feed(settings, [b"x"] * 500)
    handler = Recorder(stuck)
    impatient = settings.model_copy(update={"drain_timeout_ms": 0})
    async with consuming(impatient, handler):
        await until(lambda: len(handler.handled) == 499)
    assert (await commit_of(settings, 0))[0] == 0
    heir = Recorder()
    async with consuming(settings, heir):
        await until(lambda: bool(heir.handled))

        async def passed() -> bool:
            return (await commit_of(settings, 0))[0] == 500

        await until(passed)
    assert heir.handled == [(0, 0)]


async def test_more_that_was_finished_than_fits_the_window_is_passed_over(settings: ServiceSettings) -> None:
    """While the head runs on, and nothing else ends that would make room."""
    await feed(settings, [b"x"] * 2_000)
    handler = Recorder(stuck)
    impatient = settings.model_copy(update={"drain_timeout_ms": 0})
    async with consuming(impatient, handler):
        await until(lambda: len(handler.handled) == 1_999)
    await feed(settings, [b"x"] * 5)
    heir = Recorder(stuck)
    async with consuming(impatient, heir, window=64):
        await until(lambda: len(heir.handled) == 5)
    assert sorted(heir.handled) == [(0, offset) for offset in range(2_000, 2_005)]


async def test_a_full_window_stops_its_partition_alone(settings: ServiceSettings) -> None:
    gate = asyncio.Event()

    async def work(record: Record) -> None:
        if record.partition == 0:
            await gate.wait()

    await feed(settings, [b"x"] * 3_000, partition=0)
    handler = Recorder(work)
    async with consuming(settings, handler, window=10) as consumer:
        await until(lambda: consumer.ready and handler.active[0] == 10)
        await feed(settings, [b"x"] * 1_000, partition=1)
        await until(lambda: len(handler.handled) == 1_000)
        assert handler.active[0] == 10
        gate.set()
        await until(lambda: len(handler.handled) == 4_000)
    assert max(handler.most_active.values()) == 10


async def test_an_idle_topic_is_read_whole_and_again_after_it_was_idle(settings: ServiceSettings) -> None:
    """Through full windows, which pause it too, and while it is paused."""
    handler = Recorder()
    async with consuming(settings, handler, window=10, idle_topics=[Topic.RESULTS]) as consumer:
        await until(lambda: consumer.ready)
        for batch in (1, 2, 3):
            fed = await feed(settings, [b"x"] * 500, partition=batch)
            await until(lambda: len(handler.handled) == 500 * batch)  # noqa: B023 - awaited right here
            assert {at for at in handler.handled if at[0] == batch} == set(fed)
            await asyncio.sleep(2 * PAUSED_S)  # so that it is found idle
    assert len(handler.handled) == 1_500
