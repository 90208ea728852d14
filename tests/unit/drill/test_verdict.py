"""The verdict on a drill finds every kind of broken promise, each by itself."""

from dataclasses import replace

import pytest

from shared.domain.types import Mode
from shared.testing.drill.submitting.workload import Job, Told
from tests.unit.drill.support import ASYNC, CRASH, REFUSED, SYNC, broken, call, changed, incident, kept_world

WRONG = Told("succeeded", {"value": 99})
LATE = Told("failed", code="timeout")


def test_what_went_well_is_kept() -> None:
    verdict = kept_world().verdict()
    assert verdict.kept()
    assert verdict.lines()[-1] == "every promise was kept"
    assert (verdict.accepted, verdict.answered, verdict.called, verdict.letters) == (4, 1, 2, 1)


@pytest.mark.parametrize("job", [SYNC, ASYNC, CRASH, REFUSED])
def test_a_lost_request_is_found(job: Job) -> None:
    world = kept_world()
    del world.outcomes[f"id-{job.reference}"]
    verdict = world.verdict()
    assert broken(verdict) == ["acknowledged and lost"]
    assert not verdict.kept()
    assert verdict.offenders() == {"acknowledged and lost": [f"id-{job.reference}"]}


def test_what_a_lost_request_lacks_is_not_told_once_more() -> None:
    world = kept_world()
    del world.outcomes["id-async-1"], world.calls["id-async-1"]
    world.relist("id-async-1", changed("status"))
    assert broken(world.verdict()) == ["acknowledged and lost"]


@pytest.mark.parametrize("told", [WRONG, LATE, Told("succeeded"), Told("failed", code="crashed")])
def test_a_wrong_outcome_is_found(told: Told) -> None:
    world = kept_world()
    world.outcomes["id-async-1"] = []
    world.add_outcome("id-async-1", told, "async-1")
    assert broken(world.verdict()) == ["with a wrong outcome"]


def test_a_result_in_place_of_the_failure_that_is_due_is_found() -> None:
    world = kept_world()
    world.outcomes["id-crash-1"] = []
    world.add_outcome("id-crash-1", WRONG, "crash-1")
    assert broken(world.verdict()) == ["with a wrong outcome"]


def test_an_innocent_request_that_ends_as_poison_is_found() -> None:
    world = kept_world()
    world.outcomes["id-crash-1"] = []
    world.add_outcome("id-crash-1", Told("failed", code="poison"), "crash-1")
    assert broken(world.verdict()) == ["innocent and poison"]


def test_a_second_outcome_that_differs_is_found() -> None:
    world = kept_world()
    world.add_outcome("id-async-1", LATE, "async-1")
    assert broken(world.verdict()) == ["with outcomes that differ"]


def test_a_second_outcome_that_is_equal_is_counted_and_allowed() -> None:
    world = kept_world()
    world.add_outcome("id-async-1", ASYNC.expected, "async-1")
    verdict = world.verdict()
    assert verdict.kept()
    assert verdict.superseded == 1


@pytest.mark.parametrize("listed", [True, False])
def test_one_submission_that_became_two_requests_is_found(listed: bool) -> None:
    world = kept_world()
    world.add_outcome("id-other", ASYNC.expected, "async-1")
    if listed:
        world.listed.append(replace(world.listed[1], request_id="id-other"))
    assert "submitted once and computed as several" in broken(world.verdict())


def test_a_repeat_that_was_acknowledged_under_another_id_is_found() -> None:
    world = kept_world()
    world.ledger.accept("id-other", ASYNC, callback=True)
    assert "submitted once and computed as several" in broken(world.verdict())


def test_an_aborted_record_with_an_outcome_is_found() -> None:
    world = kept_world()
    world.ledger.aborted.add("aborted-1")
    assert world.verdict().kept()
    world.add_outcome("id-aborted-1", ASYNC.expected, "aborted-1")
    assert broken(world.verdict()) == ["aborted and yet there"]


def test_an_aborted_record_that_is_listed_is_found() -> None:
    world = kept_world()
    world.ledger.aborted.add("aborted-1")
    world.listed.append(replace(world.listed[1], request_id="id-aborted-1", reference="aborted-1"))
    assert broken(world.verdict()) == ["aborted and yet there"]


def test_an_outcome_of_what_nobody_submitted_is_found() -> None:
    world = kept_world()
    world.add_outcome("id-ghost", ASYNC.expected, None)
    assert broken(world.verdict()) == ["never submitted and yet there"]


def test_what_was_never_acknowledged_may_be_there_or_not() -> None:
    world = kept_world()
    absent = replace(ASYNC, reference="absent-1")
    present = replace(SYNC, reference="present-1")
    world.ledger.attempt(absent)
    world.ledger.attempt(present)
    world.add_outcome("id-present-1", present.expected, "present-1")
    world.listed.append(replace(world.listed[0], request_id="id-present-1", reference="present-1"))
    verdict = world.verdict()
    assert verdict.kept()
    assert (verdict.accepted, verdict.unacknowledged) == (5, 1)


def test_what_was_never_acknowledged_and_is_there_must_be_right() -> None:
    world = kept_world()
    present = replace(ASYNC, reference="present-1")
    world.ledger.attempt(present)
    world.add_outcome("id-present-1", WRONG, "present-1")
    assert set(broken(world.verdict())) == {"with a wrong outcome", "without their callback", "not listed"}


@pytest.mark.parametrize("told", [WRONG, LATE])
def test_a_wrong_answer_to_a_sync_call_is_found_beside_a_right_one(told: Told) -> None:
    world = kept_world()
    world.ledger.answer("id-sync-1", told)
    assert broken(world.verdict()) == ["answered wrongly"]


def test_a_missing_callback_is_found() -> None:
    world = kept_world()
    del world.calls["id-async-1"]
    assert broken(world.verdict()) == ["without their callback"]


def test_a_callback_given_up_although_its_receiver_takes_it_is_found() -> None:
    world = kept_world()
    del world.calls["id-async-1"]
    world.letters.add("id-async-1")
    assert broken(world.verdict()) == ["with a dead letter too many or too few"]


def test_a_missing_dead_letter_is_found() -> None:
    world = kept_world()
    world.letters.clear()
    assert broken(world.verdict()) == ["with a dead letter too many or too few"]


def test_a_callback_with_a_wrong_result_is_found() -> None:
    world = kept_world()
    world.calls["id-async-1"] = [call(ASYNC, told=WRONG)]
    assert broken(world.verdict()) == ["called back with a wrong result"]


def test_a_callback_with_a_bad_signature_is_found() -> None:
    world = kept_world()
    world.calls["id-async-1"] = [call(ASYNC, verified=False)]
    assert broken(world.verdict()) == ["called back with a bad signature"]


def test_a_callback_that_nobody_asked_for_is_found() -> None:
    world = kept_world()
    world.calls["id-sync-1"] = [call(SYNC)]
    assert broken(world.verdict()) == ["called back and never asked for"]


def test_a_repeated_callback_without_an_excuse_is_found() -> None:
    world = kept_world()
    world.calls["id-async-1"] *= 2
    verdict = world.verdict()
    assert not verdict.kept()
    assert verdict.kept(repeats=1)
    assert verdict.offenders() == {"called back again": ["id-async-1"]}


def test_a_repeated_callback_is_excused_by_a_death_of_the_callback_service_at_its_time() -> None:
    world = kept_world()
    world.calls["id-async-1"] *= 2
    world.incidents = [incident("callback-0", 95.0, 105.0)]
    verdict = world.verdict()
    assert verdict.kept()
    assert verdict.repeated == 1


@pytest.mark.parametrize(
    "excuse", [incident("compute-0", 95.0, 105.0), incident("callback-0", 30.0, 40.0)], ids=["other", "early"]
)
def test_a_repeated_callback_is_not_excused_by_another_victim_or_another_time(excuse: object) -> None:
    world = kept_world()
    world.calls["id-async-1"] *= 2
    world.incidents = [excuse]  # type: ignore[list-item]  # parametrized as objects
    assert not world.verdict().kept()


def test_a_death_excuses_no_more_repeats_than_its_share() -> None:
    world = kept_world()
    world.incidents = [incident("callback-0", 95.0, 105.0)]
    world.calls["id-async-1"] *= 3
    assert world.verdict().kept()
    world.calls["id-async-1"].append(call(ASYNC))
    assert len(world.verdict().unexcused) == 1


def test_a_repeat_with_another_body_is_found_also_where_the_repeat_is_excused() -> None:
    world = kept_world()
    again = call(ASYNC)
    world.calls["id-async-1"].append(replace(again, body=again.body + b" "))
    world.incidents = [incident("callback-0", 95.0, 105.0)]
    assert broken(world.verdict()) == ["called back again with another body"]


@pytest.mark.parametrize("column", ["mode", "status", "callback_status"])
def test_a_listing_that_disagrees_is_found(column: str) -> None:
    world = kept_world()
    world.relist("id-async-1", changed(column))
    assert broken(world.verdict()) == ["listed otherwise than they ended"]


def test_a_request_that_is_listed_twice_or_not_at_all_is_found() -> None:
    world = kept_world()
    world.listed.append(world.listed[1])
    assert broken(world.verdict()) == ["listed otherwise than they ended"]
    world.listed = [each for each in world.listed if each.request_id != "id-async-1"]
    assert broken(world.verdict()) == ["not listed"]


def test_a_record_set_aside_as_no_request_is_found() -> None:
    world = kept_world()
    world.condemned.append("requests-0-7")
    assert broken(world.verdict()) == ["set aside as no request"]


def test_a_submission_that_was_refused_is_found() -> None:
    world = kept_world()
    world.ledger.refused.append("async-9: 409")
    assert not world.verdict().kept()


def test_trouble_with_the_system_breaks_the_verdict() -> None:
    verdict = kept_world().verdict().troubled("lag left: compute requests-0 has 3 records")
    assert not verdict.kept()
    assert "BROKEN: lag left: compute requests-0 has 3 records" in verdict.lines()


def test_an_outcome_is_recomputed_here() -> None:
    job = Job("primes-1", Mode.SYNC, "primes", {"start": 0, "stop": 10, "want": "count"})
    assert job.expected == Told("succeeded", {"count": 4})
