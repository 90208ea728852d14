"""Limits hold under any mixture of calls, waits, give-ups and cancellations, and nothing is left behind."""

import asyncio
import random
import time
from collections import Counter
from itertools import pairwise

import pytest

from services.callback.limiter import QUEUES_KEPT, OriginLimiter
from services.callback.origin_queue import UNRECORDED_SHARE, Caller, OriginLimits, Room
from services.callback.permit import SentAwayError
from shared.kafka.handler import ReleaseRecord
from tests.support.waiting import until


class Monotonic:
    """A clock of a process that is never stopped."""

    def now_s(self) -> float:
        return time.monotonic()


def open_limiter(total: int = 100, room: Room | None = None, begin_reserve: int = 0) -> OriginLimiter:
    room = room or Room(1_000_000, 1_000_000)
    return OriginLimiter(total, room, Monotonic(), begin_reserve=begin_reserve)


LIMITS = OriginLimits(concurrency=3, queue=5, wait_s=0.02)
SINGLE = OriginLimits(concurrency=1, queue=1_000, wait_s=5.0)


async def _called(
    limiter: OriginLimiter,
    limits: OriginLimits,
    call_s: float = 0.0,
    caller: Caller | None = None,
    origin: str = "origin",
) -> bool:
    """Whether a call was made, rather than sent away."""
    try:
        with await limiter.acquire(origin, limits, caller or Caller(size=100)) as permit:
            await asyncio.sleep(call_s)
            permit.answered()
        permit.recorded()
    except SentAwayError:
        return False
    return True


class Held:
    """Calls that are under way until they are let go."""

    def __init__(self) -> None:
        self.go_on = asyncio.Event()
        self.begun = 0
        self.tasks: list[asyncio.Task[None]] = []

    async def begin(
        self, limiter: OriginLimiter, count: int, limits: OriginLimits, caller: Caller, origin: str = "origin"
    ) -> None:
        async def call() -> None:
            with await limiter.acquire(origin, limits, caller) as permit:
                self.begun += 1
                await self.go_on.wait()
                permit.answered()
            permit.recorded()

        before = self.begun
        self.tasks += [asyncio.create_task(call()) for _ in range(count)]
        await until(lambda: self.begun == before + count)

    async def end(self) -> None:
        self.go_on.set()
        await asyncio.gather(*self.tasks)


@pytest.mark.parametrize("seed", range(8))
async def test_no_limit_is_ever_passed_and_no_place_lost(seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311 - a test's choice
    limiter = open_limiter(7)
    running: Counter[str] = Counter()
    unrecorded: Counter[str] = Counter()
    most: Counter[str] = Counter()
    ends: Counter[str] = Counter()

    async def called(origin: str) -> None:
        try:
            await asyncio.sleep(chance.choice((0, 0.001, 0.01)))
        finally:
            running[origin] -= 1

    async def call(origin: str) -> None:
        try:
            with await limiter.acquire(origin, LIMITS, Caller(partition=chance.randrange(2))) as permit:
                unrecorded[origin] += 1
                running[origin] += 1
                most[origin] = max(most[origin], running[origin])
                most["all"] = max(most["all"], running.total())
                most["unrecorded"] = max(most["unrecorded"], unrecorded[origin])
                try:
                    await called(origin)
                except BaseException:
                    unrecorded[origin] -= 1
                    raise
                if chance.random() < 0.2:
                    unrecorded[origin] -= 1
                    return
                permit.answered()
            try:
                await asyncio.sleep(chance.choice((0, 0.01, 0.05)))
            finally:
                unrecorded[origin] -= 1
                permit.recorded()
            ends["made"] += 1
        except SentAwayError:
            ends["sent away"] += 1

    tasks = []
    for _ in range(600):
        tasks.append(asyncio.create_task(call(chance.choice("abcde"))))
        if chance.random() < 0.3:
            chance.choice(tasks).cancel()
        if chance.random() < 0.2:
            await asyncio.sleep(chance.choice((0, 0.002)))
    await asyncio.gather(*tasks, return_exceptions=True)

    assert max(most[origin] for origin in "abcde") <= LIMITS.concurrency
    assert most["all"] <= 7
    assert LIMITS.concurrency < most["unrecorded"] <= LIMITS.concurrency * UNRECORDED_SHARE
    assert ends["made"] > 0
    assert ends["sent away"] > 0
    held = Held()
    for origin in "ab":
        await held.begin(limiter, LIMITS.concurrency, LIMITS, Caller(), origin)
    await held.end()
    assert not any(queue.entered for queue in limiter._queues.values())
    assert not limiter._shares._calls


async def test_a_call_that_fails_gives_its_place_back() -> None:
    limiter = open_limiter(1)
    with pytest.raises(RuntimeError), await limiter.acquire("a", LIMITS, Caller()):
        raise RuntimeError
    assert await _called(limiter, LIMITS)


async def test_any_number_of_origins_takes_bounded_room() -> None:
    limiter, held = open_limiter(10), Held()
    rated = OriginLimits(concurrency=3, queue=5, wait_s=1, rate=0.001)
    await held.begin(limiter, 3, LIMITS, Caller())
    for number in range(QUEUES_KEPT + 2_000):
        await _called(limiter, rated, origin=f"origin-{number}")
    assert len(limiter) <= QUEUES_KEPT + 1
    assert not await _called(limiter, LIMITS), (
        "an origin in use is never forgotten: a fourth call has to wait"
    )
    await held.end()


async def test_nobody_is_sent_away_from_a_queue_that_moves() -> None:
    limits = OriginLimits(concurrency=10, queue=1_000, wait_s=0.25)
    limiter, begun = open_limiter(), time.monotonic()
    assert all(await asyncio.gather(*(_called(limiter, limits, 0.02) for _ in range(200))))
    assert time.monotonic() - begun > limits.wait_s, "the last have waited longer than a call may take"


async def test_all_are_sent_away_from_a_queue_that_stands() -> None:
    limiter, held = open_limiter(), Held()
    limits = OriginLimits(concurrency=1, queue=1_000, wait_s=0.2)
    begun = time.monotonic()
    await held.begin(limiter, 1, limits, Caller())
    assert not any(await asyncio.gather(*(_called(limiter, limits) for _ in range(50))))
    assert limits.wait_s <= time.monotonic() - begun < limits.longest_wait_s
    begun = time.monotonic()
    assert not await _called(limiter, limits), "who comes later does not wait at all"
    assert time.monotonic() - begun < limits.wait_s / 2
    await held.end()
    assert await _called(limiter, limits), "nothing is left of those who were sent away"


async def test_a_wait_has_an_end_though_every_call_is_quick() -> None:
    limits = OriginLimits(concurrency=1, queue=1_000, wait_s=0.1)
    limiter = open_limiter()
    begun = time.monotonic()
    made = await asyncio.gather(*(_called(limiter, limits, 0.02) for _ in range(300)))
    assert all(made[:3])
    assert made.count(False) > 150
    assert time.monotonic() - begun < 2 * limits.longest_wait_s


@pytest.mark.parametrize("wait_s", [0.0, 0.05])
async def test_a_queue_that_waits_for_the_log_sends_nobody_away(wait_s: float) -> None:
    """The receiver is well and idle: to put the others off would need the same log."""
    limiter, limits = open_limiter(), OriginLimits(concurrency=1, queue=30, wait_s=wait_s)
    recorded = asyncio.Event()

    async def unrecorded() -> None:
        with await limiter.acquire("origin", limits, Caller()) as permit:
            permit.answered()
        await recorded.wait()
        permit.recorded()

    stuck = [asyncio.create_task(unrecorded()) for _ in range(UNRECORDED_SHARE)]
    waiting = [asyncio.create_task(_called(limiter, limits)) for _ in range(20)]
    await asyncio.sleep(0.4)
    assert not any(task.done() for task in waiting)
    recorded.set()
    assert all(await asyncio.gather(*waiting))
    await asyncio.gather(*stuck)


async def test_what_waits_or_is_under_way_leaves_room_in_the_window_of_every_partition() -> None:
    limiter, held = open_limiter(room=Room(6, 10_000)), Held()
    limits = OriginLimits(concurrency=1, queue=3, wait_s=5.0)
    await held.begin(limiter, 1, limits, Caller(partition=0), "origin")
    waiting = [asyncio.create_task(_called(limiter, limits, caller=Caller(partition=0))) for _ in range(3)]
    await asyncio.sleep(0)
    assert not await _called(limiter, limits, caller=Caller(partition=0)), "four of it are for this origin"
    elsewhere = asyncio.create_task(_called(limiter, limits, caller=Caller(partition=1)))
    await held.begin(limiter, 1, limits, Caller(partition=0), "another")
    waiting.append(
        asyncio.create_task(_called(limiter, limits, caller=Caller(partition=0), origin="another"))
    )
    await asyncio.sleep(0)
    assert not await _called(limiter, limits, caller=Caller(partition=0), origin="third"), "six are for all"
    await held.end()
    assert all(await asyncio.gather(*waiting, elsewhere))


async def test_bodies_of_calls_under_way_take_room_too() -> None:
    """Eight results of 2 MiB for an origin that hangs filled the window of their partition."""
    mib = 1024 * 1024
    limiter, held = open_limiter(room=Room(445, 6 * mib)), Held()
    limits = OriginLimits(concurrency=8, queue=250, wait_s=5.0, queue_bytes=4 * mib)
    big = Caller(partition=3, size=2 * mib)
    await held.begin(limiter, 2, limits, big)
    assert not await _called(limiter, limits, caller=big)
    assert await _called(limiter, limits, caller=Caller(partition=4, size=2 * mib))
    await held.end()


async def test_a_call_that_can_begin_at_once_finds_room_where_others_wait() -> None:
    limiter, held = open_limiter(room=Room(3, 10_000), begin_reserve=1), Held()
    await held.begin(limiter, 1, SINGLE, Caller(), "slow")
    waiting = [asyncio.create_task(_called(limiter, SINGLE, origin="slow")) for _ in range(2)]
    await asyncio.sleep(0)
    assert not await _called(limiter, SINGLE, origin="slow")
    assert await _called(limiter, SINGLE, origin="healthy")
    await held.end()
    await asyncio.gather(*waiting)


async def test_no_submitter_and_no_address_has_more_than_a_quarter_of_the_calls() -> None:
    limiter, held = open_limiter(total=16), Held()
    wide = OriginLimits(concurrency=8, queue=100, wait_s=0.1)
    for port in range(2):
        caller = Caller(submitter="greedy", address=f"10.0.0.{port}")
        await held.begin(limiter, 2, wide, caller, f"http://greedy:{port}")
    assert not await _called(limiter, wide, caller=Caller(submitter="greedy", address="10.0.0.9"))
    assert await _called(limiter, wide, caller=Caller(submitter="other", address="10.0.0.0"))
    for number in range(2):
        await held.begin(limiter, 1, wide, Caller(submitter=f"s{number}", address="10.0.0.0"), f"o{number}")
    assert not await _called(limiter, wide, caller=Caller(submitter="other", address="10.0.0.0"))
    await held.end()


async def test_who_waits_for_its_share_is_served_once_a_call_of_it_ends() -> None:
    limiter, held, caller = open_limiter(total=4), Held(), Caller(submitter="one", address="a")
    await held.begin(limiter, 1, SINGLE, caller, "first")
    waiting = [
        asyncio.create_task(_called(limiter, SINGLE, caller=caller, origin=origin)) for origin in "bcd"
    ]
    await asyncio.sleep(0.01)
    assert not any(task.done() for task in waiting)
    await held.end()
    assert all(await asyncio.gather(*waiting))


async def test_submitters_take_turns_within_an_origin() -> None:
    limiter, held = open_limiter(), Held()
    await held.begin(limiter, 1, SINGLE, Caller(submitter="a"))
    served: list[str] = []

    async def call(submitter: str) -> None:
        if await _called(limiter, SINGLE, 0.001, Caller(submitter=submitter)):
            served.append(submitter)

    waiting = [asyncio.create_task(call("a")) for _ in range(200)]
    await asyncio.sleep(0)
    waiting += [asyncio.create_task(call("b")) for _ in range(2)]
    await held.end()
    await asyncio.gather(*waiting)
    assert served.index("b") <= 1
    assert served[:5].count("b") == 2


async def test_who_waits_for_a_rate_holds_no_place() -> None:
    limiter = open_limiter(total=4)
    slow = OriginLimits(concurrency=8, queue=100, wait_s=5.0, rate=2.0)
    waiting = [
        asyncio.create_task(_called(limiter, slow, origin=f"rated-{number % 4}")) for number in range(16)
    ]
    await asyncio.sleep(0.01)
    begun = time.monotonic()
    for _ in range(40):
        assert await _called(limiter, LIMITS)
    assert time.monotonic() - begun < 0.5
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)


async def test_calls_that_waited_for_a_place_do_not_exceed_the_rate_together() -> None:
    limiter, held = open_limiter(), Held()
    rated = OriginLimits(concurrency=8, queue=100, wait_s=5.0, rate=20.0)
    begun: list[float] = []

    async def call() -> None:
        with await limiter.acquire("origin", rated, Caller()):
            begun.append(time.monotonic())

    for _ in range(8):
        await held.begin(limiter, 1, rated, Caller())
    waiting = [asyncio.create_task(call()) for _ in range(6)]
    await asyncio.sleep(0.5)
    assert not begun
    await held.end()
    await asyncio.gather(*waiting)
    assert all(later - earlier >= 0.049 for earlier, later in pairwise(begun))


async def test_a_rate_goes_by_a_clock_that_nobody_sets(monkeypatch: pytest.MonkeyPatch) -> None:
    limiter, limits = open_limiter(), OriginLimits(concurrency=1, queue=5, wait_s=1.0, rate=100.0)
    assert await _called(limiter, limits)
    hour_ago = time.time() - 3_600
    monkeypatch.setattr(time, "time", lambda: hour_ago)
    assert await _called(limiter, limits)


async def test_who_waits_at_the_close_is_left_to_the_next_owner() -> None:
    limiter, held = open_limiter(), Held()
    rated = OriginLimits(concurrency=5, queue=10, wait_s=5.0, rate=0.5)
    await held.begin(limiter, 1, SINGLE, Caller())
    assert await _called(limiter, rated, origin="rated")
    waiting = [asyncio.create_task(_called(limiter, SINGLE)) for _ in range(5)]
    waiting.append(asyncio.create_task(_called(limiter, rated, origin="rated")))
    await asyncio.sleep(0.01)
    limiter.close()
    ends = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(end) for end in ends] == [ReleaseRecord] * 6
    with pytest.raises(ReleaseRecord):
        await _called(limiter, SINGLE)
    await held.end()


async def test_free_places_are_offered_where_nobody_waits() -> None:
    limiter, held, offered = open_limiter(), Held(), Counter[str]()
    limiter.on_place = lambda origin: offered.update([origin])
    await held.begin(limiter, 3, LIMITS, Caller())
    assert limiter.places("origin") == 0
    offered.clear()
    await held.end()
    assert limiter.places("origin") == 3
    assert offered["origin"] > 0
