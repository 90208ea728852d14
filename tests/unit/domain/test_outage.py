"""The law of an outage, simulated: however long a destination is down, its backlog costs few appends.

One in ten: twenty deliveries a second stand for two hundred, turns are ten times as far apart. Tiers are read
as the service reads them: in their order, so many at a time, and what waits in memory goes as soon as its
destination takes it.
"""

import heapq
import random
from collections import Counter, deque
from dataclasses import dataclass, field

import pytest

from shared.domain import pacing
from shared.domain.pacing import next_return
from shared.domain.retry_policy import DeferralPolicy, deferral_ms, with_jitter

TIERS = (1_000, 5_000, 30_000, 120_000, 600_000, 3_600_000)
SCALE = 10
WINDOW = 8 * 1_000 // SCALE
"""Of all eight partitions of a tier."""

RATE = 200
DRAIN = 500
POLICY = DeferralPolicy()


@dataclass
class Tier:
    """Records in the order of their appends, which is that of their times."""

    delay_ms: int
    unread: deque[tuple[int, int]] = field(default_factory=deque)
    window: list[tuple[int, int]] = field(default_factory=list)

    def read(self) -> None:
        while self.unread and len(self.window) < WINDOW:
            heapq.heappush(self.window, self.unread.popleft())


@dataclass
class Outage:
    """A destination that is down from 0 until `back_ms`, and gets `RATE` a second all the time."""

    back_ms: int
    tiers: list[Tier] = field(default_factory=lambda: [Tier(each) for each in TIERS])
    appends: Counter[int] = field(default_factory=Counter)
    open_until_ms: int = 5_000
    trips: int = 1
    free_ms: dict[int, float] = field(default_factory=dict)
    chance: random.Random = field(default_factory=lambda: random.Random(7))  # noqa: S311 - a test's choice
    delivered_ms: list[int] = field(default_factory=list)
    closed: bool = False

    def run(self, *, arrivals_until_ms: int) -> None:
        arriving = RATE * arrivals_until_ms // 1_000 // SCALE
        for now_ms in range(0, arrivals_until_ms * 2 + 3_600_000, 100):
            if len(self.delivered_ms) == arriving:
                return
            due = [0] * (RATE // SCALE // 10 if now_ms < arrivals_until_ms else 0)
            for tier in self.tiers:
                tier.read()
                while tier.window and tier.window[0][0] <= now_ms:
                    due.append(heapq.heappop(tier.window)[1])
                    tier.read()
            for deferrals in due:
                self.arrive(now_ms, deferrals)
            if self.closed:
                self.drain(now_ms, DRAIN // SCALE // 10 - len(due))
            elif now_ms >= self.open_until_ms:
                self.probe(now_ms)

    def arrive(self, now_ms: int, deferrals: int) -> None:
        if not self.closed and now_ms >= self.open_until_ms:
            self.closed = now_ms >= self.back_ms
            self.trips += 1
            self.open_until_ms = now_ms + min(5_000 << self.trips - 1, 60_000)
        if self.closed:
            self.delivered_ms.append(now_ms)
        else:
            self.defer(now_ms, deferrals)

    def defer(self, now_ms: int, deferrals: int) -> None:
        wait_ms = deferral_ms(POLICY, deferrals, max(self.open_until_ms - now_ms, 1_000))
        delay_ms, self.free_ms[delay_ms] = next_return(self.free_ms, TIERS, wait_ms, now_ms)
        tier = next(each for each in self.tiers if each.delay_ms == delay_ms)
        jitter_ms = with_jitter(delay_ms, self.chance.random()) - delay_ms
        tier.unread.append((now_ms + delay_ms + jitter_ms, deferrals + 1))
        self.appends[now_ms // 10_000] += SCALE

    def probe(self, now_ms: int) -> None:
        """When the breaker lets a probe go, one of those that wait in memory is it."""
        tier = next((each for each in self.tiers if each.window), None)
        if tier is not None:
            self.arrive(now_ms, heapq.heappop(tier.window)[1])

    def drain(self, now_ms: int, room: int) -> None:
        """What waits in memory is made as fast as its destination takes it."""
        for tier in self.tiers:
            while room > 0 and tier.window:
                heapq.heappop(tier.window)
                self.delivered_ms.append(now_ms)
                tier.read()
                room -= 1

    def per_second(self) -> list[float]:
        """Appends a second, of every ten seconds."""
        return [self.appends[each] / 10 for each in range(max(self.appends) + 1)]


@pytest.fixture(autouse=True)
def _one_in_ten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pacing, "RETURN_MS", pacing.RETURN_MS * SCALE)


@pytest.mark.parametrize("minutes", [1, 10, 20])
def test_appends_stay_flat_and_all_is_delivered_soon_after_its_return(minutes: int) -> None:
    back_ms = minutes * 60_000
    outage = Outage(back_ms)
    outage.run(arrivals_until_ms=back_ms)
    backlog = minutes * 60 * RATE
    assert len(outage.delivered_ms) == backlog // SCALE
    assert max(outage.per_second()) <= 1.5 * RATE + 200
    assert max(outage.delivered_ms) - back_ms <= 120_000 + backlog * 1_000 // DRAIN


def test_a_delivery_to_a_destination_that_stays_away_for_a_day_is_appended_some_hundred_times() -> None:
    outage, now_ms, deferrals = Outage(back_ms=10**12), 0, 0
    while now_ms < 24 * 3_600_000:
        outage.open_until_ms = now_ms + 60_000
        outage.defer(now_ms, deferrals)
        [now_ms] = [tier.unread.pop()[0] for tier in outage.tiers if tier.unread]
        deferrals += 1
    assert sum(outage.appends.values()) // SCALE == deferrals
    assert 700 < deferrals < 750


def test_a_short_backlog_comes_back_soon() -> None:
    outage = Outage(back_ms=10**12)
    for _ in range(60 // SCALE):
        outage.defer(0, 0)
    assert sum(len(tier.unread) for tier in outage.tiers[:2]) == 60 // SCALE
