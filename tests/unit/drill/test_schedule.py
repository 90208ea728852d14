"""The schedule of faults: repeated by its seed, complete, and bounded."""

from shared.testing.drill.faults.schedule import (
    BEYOND_SESSION_S,
    BROKER,
    BROKER_STOP_S,
    COVERED_MINUTES,
    HEAD,
    LONGEST_STOP_S,
    SHORTEST_STOP_S,
    Fault,
    FaultKind,
    fault_schedule,
)

SERVICES = ("ingest-0", "compute-0", "compute-1", "compute-2", "compute-3", "callback-0", "projector-0")
SEEDS = range(100)


def schedule(seed: int, minutes: float = COVERED_MINUTES) -> tuple[Fault, ...]:
    return fault_schedule(seed, minutes, SERVICES)


def test_a_seed_gives_the_same_schedule_again() -> None:
    assert schedule(7) == schedule(7)
    assert schedule(7) != schedule(8)


def test_every_victim_meets_every_kind_of_fault() -> None:
    for seed in SEEDS:
        done = {(each.victim, each.kind) for each in schedule(seed)}
        services = {(name, kind) for name in SERVICES for kind in (FaultKind.KILL, FaultKind.STOP)}
        broker = {(BROKER, kind) for kind in (FaultKind.RESTART, FaultKind.KILL, FaultKind.STOP)}
        assert done >= services | broker
        assert FaultKind.KILL_TWICE in {kind for _, kind in done}


def test_stops_are_bounded_and_one_of_the_first_outlasts_the_session() -> None:
    for seed in SEEDS:
        stops = [each.stop_s for each in schedule(seed) if each.kind is FaultKind.STOP]
        assert all(SHORTEST_STOP_S <= each <= LONGEST_STOP_S for each in stops)
        assert any(each.stop_s >= BEYOND_SESSION_S for each in schedule(seed, minutes=2.0)[:HEAD])


def test_a_short_schedule_is_the_beginning_of_a_long_one() -> None:
    for seed in SEEDS:
        short, long = schedule(seed, minutes=2.0), schedule(seed, minutes=20.0)
        assert long[: len(short)] == short
        assert len(long) > 2 * len(short)


def test_a_schedule_fits_into_its_minutes() -> None:
    for seed in SEEDS:
        assert sum(each.nominal_s for each in schedule(seed)) <= COVERED_MINUTES * 60


def test_the_broker_is_stopped_for_longer_than_an_acknowledgement_is_waited_for() -> None:
    stops = [
        each.stop_s
        for seed in SEEDS
        for each in schedule(seed)
        if each.victim == BROKER and each.kind is FaultKind.STOP
    ]
    assert all(BROKER_STOP_S[0] <= each <= BROKER_STOP_S[1] for each in stops)
