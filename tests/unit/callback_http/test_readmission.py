"""Who waits in memory goes as soon as its destination takes it, one probe at a time while it is down."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from services.callback.breakers import Breakers
from services.callback.limiter import OriginLimiter
from services.callback.origin_queue import Caller, OriginLimits, Room
from services.callback.ports import WaitsFor
from services.callback.readmission import Readmission
from shared.domain.breaker import BreakerPolicy
from shared.domain.callbacks import FailedAttempt, SuccessfulAttempt
from shared.domain.retry_policy import ErrorClass
from tests.support.waiting import until

OPEN_MS = 150
LIMITS = OriginLimits(concurrency=2, queue=10, wait_s=1.0)
HERE = WaitsFor("http://here", "d-1")
BESIDE = WaitsFor("http://here", "d-2")
DOWN = FailedAttempt(error_class=ErrorClass.REFUSED, at_ms=0, duration_ms=1.0)
UNWELL = FailedAttempt(error_class=ErrorClass.HTTP_5XX, at_ms=0, duration_ms=1.0)
WELL = SuccessfulAttempt(status=200, at_ms=0, duration_ms=1.0)


def now_ms() -> int:
    return int(time.monotonic() * 1000)


class Clock:
    def now_s(self) -> float:
        return time.monotonic()


class Waiting:
    """A crowd that waits; each is counted once it is woken."""

    def __init__(self) -> None:
        self.breakers = Breakers(BreakerPolicy(failures=1, open_ms=OPEN_MS, max_open_ms=OPEN_MS))
        self.limiter = OriginLimiter(100, Room(1_000, 10**9), Clock())
        self.readmission = Readmission(self.breakers, self.limiter, now_ms)
        self.limiter.on_place = self.readmission.offer
        self.woken: list[WaitsFor] = []
        self._stack = ExitStack()

    def park(self, waits_for: WaitsFor, count: int = 1) -> None:
        for _ in range(count):
            self._stack.enter_context(
                self.readmission.parked(waits_for, lambda: self.woken.append(waits_for))
            )

    def end(self, waits_for: WaitsFor, attempt: FailedAttempt | SuccessfulAttempt) -> None:
        admission = self.breakers.admit(*waits_for, now_ms())
        assert admission is not None
        self.breakers.settle(admission, attempt, now_ms())
        self.readmission.changed(waits_for)

    def close(self) -> None:
        self._stack.close()
        self.readmission.close()


@pytest.fixture
def crowd() -> Iterator[Waiting]:
    waiting = Waiting()
    yield waiting
    waiting.close()


async def test_a_destination_that_is_well_takes_as_many_as_it_has_places(crowd: Waiting) -> None:
    permits = [await crowd.limiter.acquire(HERE.origin, LIMITS, Caller()) for _ in range(2)]
    crowd.park(HERE, 5)
    await asyncio.sleep(0.05)
    assert crowd.woken == [], "it is busy"
    for permit in permits:
        with permit:
            permit.answered()
        permit.recorded()
        before = len(crowd.woken)
        await until(lambda: len(crowd.woken) > before)  # noqa: B023 - it is awaited at once


async def test_while_it_is_down_one_is_woken_for_each_probe(crowd: Waiting) -> None:
    crowd.end(HERE, DOWN)
    crowd.park(HERE, 5)
    await asyncio.sleep(OPEN_MS / 2_000)
    assert crowd.woken == []
    await until(lambda: crowd.woken == [HERE])
    crowd.end(HERE, DOWN)
    await until(lambda: crowd.woken == [HERE] * 2)
    crowd.end(HERE, WELL)
    await until(lambda: crowd.woken == [HERE] * 5)


async def test_a_url_that_is_down_does_not_keep_those_for_another_one(crowd: Waiting) -> None:
    crowd.end(HERE, UNWELL)
    crowd.park(HERE, 20)
    crowd.park(BESIDE, 3)
    await until(lambda: crowd.woken.count(BESIDE) == 3)
    assert crowd.woken.count(HERE) <= 1


async def test_nobody_is_woken_after_it_was_left(crowd: Waiting) -> None:
    with crowd.readmission.parked(HERE, lambda: crowd.woken.append(HERE)):
        """It has come by itself."""
    await asyncio.sleep(0.02)
    assert crowd.woken == []
    assert not crowd.readmission._parking._origins
