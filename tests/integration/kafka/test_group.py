"""Members of a group as processes: they come and go, and are killed; no record is lost."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiokafka.admin import AIOKafkaAdminClient

from shared.kafka.poison import ATTEMPTS
from shared.kafka.topics import Topic, topic_name
from shared.settings import ServiceSettings
from tests.integration.kafka.support import (
    At,
    MemberProcess,
    commit_of,
    feed,
    members,
    plain_producer,
    report,
    todo,
    until,
)

pytestmark = [pytest.mark.kafka, pytest.mark.slow]


@asynccontextmanager
async def steady_load(settings: ServiceSettings, per_s: int = 200) -> AsyncIterator[list[At]]:
    """Records of 5 ms each on all partitions while the block runs."""
    fed: list[At] = []
    stopping = asyncio.Event()
    name = topic_name(settings, Topic.RESULTS)

    async def write() -> None:
        async with plain_producer(settings) as producer:
            number = 0
            while not stopping.is_set():
                done = await producer.send_and_wait(
                    name, todo(sleep_ms=5), partition=number % settings.partitions
                )
                fed.append((done.partition, done.offset))
                number += 1
                await asyncio.sleep(1 / per_s)

    writing = asyncio.create_task(write())
    try:
        yield fed
    finally:
        stopping.set()
        await writing


def handled(group: list[MemberProcess]) -> Counter[At]:
    return Counter(at for member in group for at in member.at("handled"))


async def everything_is_handled(group: list[MemberProcess], fed: list[At]) -> None:
    await until(lambda: set(fed) <= set(handled(group)))


def worst_delay_ms(group: list[MemberProcess], numbers: set[int]) -> int:
    return max(
        int(each["time_ms"]) - int(each["written_ms"])
        for member in group
        for each in member.events("handled")
        if each["at"][0] in numbers
    )


async def test_members_come_and_go_under_load(settings: ServiceSettings) -> None:
    """1 → 4 → 1: static members do not leave, so the last one waits for a session timeout."""
    async with members(settings, 4) as group:
        first, *others = group
        await first.start()
        await first.until_ready()
        async with steady_load(settings) as fed:
            for member in others:
                await member.start()
                await member.until_ready()
            seen = len(fed)
            await until(lambda: len(fed) >= seen + 200)
            for member in others:
                await member.stop()
            await until(lambda: first.said[-1]["event"] == "handled" and bool(first.events("assigned")))
            await until(lambda: len({number for number, _ in first.at("handled")[-50:]}) == 8)
        await everything_is_handled(group, fed)
    repeated = sum(count - 1 for count in handled(group).values())
    report(f"{len(fed)} records, {repeated} handled again")
    assert repeated < len(fed) // 5


async def test_a_killed_member_comes_back_and_others_do_not_notice(settings: ServiceSettings) -> None:
    async with members(settings, 4) as group:
        for member in group:
            await member.start()
        for member in group:
            await member.until_ready()
        victim = group[1]
        async with steady_load(settings) as fed:
            await until(lambda: len(fed) >= 100)
            theirs = {number for number, _ in victim.at("handled")[-20:]}
            before = {id(member): len(member.events("assigned")) for member in group}
            await victim.kill()
            killed_at = len(fed)
            victim.said = [each for each in victim.said if each["event"] == "handled"]
            await victim.start()
            await victim.until_ready()
            await until(lambda: len(fed) >= killed_at + 200)
        await everything_is_handled(group, fed)
        assert all(
            len(member.events("assigned")) == before[id(member)] for member in group if member is not victim
        ), "the others were rebalanced"
    repeated = sum(count - 1 for count in handled(group).values())
    delay_ms = worst_delay_ms(group, set(range(8)) - theirs)
    report(f"others' worst delay {delay_ms} ms; the victim's {worst_delay_ms(group, theirs)} ms")
    report(f"{repeated} of {len(fed)} handled again")
    assert delay_ms < 3_000
    assert repeated <= 60, "more was repeated than one commit interval holds"


async def test_finished_work_behind_a_long_record_survives_a_kill(settings: ServiceSettings) -> None:
    """A long record at the head, 500 finished behind it: a kill repeats the long one alone."""
    await feed(settings, [todo(sleep_ms=30_000), *[todo()] * 500])
    async with members(settings, 1) as (member,):
        await member.start()
        await until(lambda: len(member.at("handled")) == 500)

        async def noted() -> bool:
            offset, metadata = await commit_of(settings, 0)
            return (offset, metadata.done) == (0, ((1, 500),))

        await until(noted)
        await member.kill()
        member.said.clear()
        await member.start()
        await until(lambda: member.at("started") == [(0, 0)])
        await feed(settings, [todo()])
        await until(lambda: member.at("handled") == [(0, 501)])


async def test_a_record_that_kills_is_found_and_ended(settings: ServiceSettings, tmp_path: Path) -> None:
    """Its neighbours, also those of other partitions, are handled; the deaths are bounded."""
    guilty = (0, 5)
    fed = await feed(settings, [todo(kill=number == guilty[1], sleep_ms=20) for number in range(20)])
    fed += await feed(settings, [todo(sleep_ms=20)] * 20, partition=1)
    deaths = 0
    async with members(settings, 1, "--journal", str(tmp_path)) as (member,):
        while not member.events("poison"):
            await member.start()
            await until(lambda: bool(member.events("poison")) or has_ended(member))
            deaths += not member.events("poison")
            assert deaths <= ATTEMPTS
        await until(lambda: set(member.at("handled")) == set(fed) - {guilty})
        assert member.at("poison") == [guilty]
        assert member.events("poison")[0]["attempts"] == ATTEMPTS

        async def passed() -> bool:
            offset, metadata = await commit_of(settings, 0)
            return offset == 20 and not metadata.attempts

        await until(passed)
    assert deaths == ATTEMPTS


async def test_deaths_of_a_record_that_moves_are_bounded(settings: ServiceSettings, tmp_path: Path) -> None:
    """Each instance has a journal of its own, and its session expires before the other one takes over."""
    await feed(settings, [todo(kill=True), *[todo(sleep_ms=5)] * 20])
    deaths, moves = 0, 0
    async with members(settings, 2, "--journal", str(tmp_path)) as (owner, other):
        while not await lives_until_poison(owner):
            deaths += 1
            assert deaths <= ATTEMPTS + moves
            if deaths in (1, 3):
                owner, other, moves = other, owner, moves + 1
        await until(lambda: len({*owner.at("handled"), *other.at("handled")}) == 20)
        assert owner.at("poison") == [(0, 0)]


async def lives_until_poison(member: MemberProcess) -> bool:
    """Start a member; whether it found poison, rather than dying of it."""
    await member.start()
    await until(lambda: bool(member.events("poison")) or has_ended(member))
    return bool(member.events("poison"))


def has_ended(member: MemberProcess) -> bool:
    return member.process is not None and member.process.returncode is not None


async def test_kills_from_outside_end_nobody(settings: ServiceSettings, tmp_path: Path) -> None:
    """A long innocent record is held at four kills, and ends well."""
    await feed(settings, [todo(sleep_ms=1_500), *[todo(sleep_ms=10)] * 50])
    async with members(settings, 1, "--journal", str(tmp_path)) as (member,):
        for _ in range(4):
            member.said = [each for each in member.said if each["event"] == "handled"]
            await member.start()
            await until(lambda: (0, 0) in member.at("started"))
            await member.kill()
        await member.start()
        await until(lambda: len(set(member.at("handled"))) == 51)
        assert not member.events("poison")


async def test_records_that_only_queued_are_not_blamed(settings: ServiceSettings, tmp_path: Path) -> None:
    """However often the process is killed: nothing waits for them to be tried alone."""
    await feed(settings, [todo(queue_ms=60_000)] * 200)
    async with members(settings, 1, "--journal", str(tmp_path)) as (member,):
        for _ in range(3):
            await member.start()
            await member.until_ready()
            await member.kill()
            member.said.clear()
        await member.start()
        await member.until_ready()
        (at,) = await feed(settings, [todo()], partition=1)
        await until(lambda: member.at("handled") == [at])
    offset, metadata = await commit_of(settings, 0)
    assert (offset, metadata.attempts) == (0, {})


async def test_a_stop_drains_and_counts_as_no_death(settings: ServiceSettings, tmp_path: Path) -> None:
    await feed(settings, [todo(sleep_ms=1_000), *[todo(sleep_ms=60_000)]])
    async with members(settings, 1, "--journal", str(tmp_path)) as (member,):
        await member.start()
        await until(lambda: len(member.at("started")) == 2)
        await member.stop()
        assert member.at("handled") == [(0, 0)]
        assert member.events("stopped")
        member.said.clear()
        await member.start()
        await until(lambda: member.at("started") == [(0, 1)])
    offset, metadata = await commit_of(settings, 0)
    assert (offset, metadata.attempts) == (1, {})


async def test_a_member_stops_in_the_middle_of_a_rebalance(settings: ServiceSettings) -> None:
    """A rebalance waits for a dead static member; who is stopped meanwhile neither hangs nor lingers."""
    async with members(settings, 3) as group:
        first, ghost, late = group
        for member in (first, ghost):
            await member.start()
            await member.until_ready()
        await until(lambda: len(first.events("assigned")) >= 4)
        await ghost.kill()
        await late.start()
        await until(lambda: is_rebalancing(settings))
        began = time.monotonic()
        await first.stop()
        report(f"stopped in {time.monotonic() - began:.1f} s")
        assert first.events("stopped")
        assert first.process is not None
        assert first.process.returncode == 0
        fed = [at for number in range(8) for at in await feed(settings, [todo()], partition=number)]
        await everything_is_handled([late], fed)


async def is_rebalancing(settings: ServiceSettings) -> bool:
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.kafka)
    await admin.start()
    try:
        (response,) = await admin.describe_consumer_groups([f"{settings.topic_prefix}callback"])
        return any("PreparingRebalance" in entry for entry in response.groups)
    finally:
        await admin.close()
