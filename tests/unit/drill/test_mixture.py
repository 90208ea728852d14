"""The work of a long drill: repeated by its seed, of every kind, each with a known outcome."""

import itertools

from shared.domain.types import Mode
from shared.testing.drill.submitting.mixture import mixture
from shared.testing.drill.submitting.workload import Job


def some(mode: Mode, seed: int = 1) -> list[Job]:
    return list(itertools.islice(mixture("drill", mode, seed), 1_000))


def test_a_seed_gives_the_same_work_again() -> None:
    assert some(Mode.ASYNC) == some(Mode.ASYNC)
    assert some(Mode.ASYNC) != some(Mode.ASYNC, seed=2)


def test_there_is_work_that_succeeds_and_work_that_fails_in_every_way() -> None:
    assert {job.failure for job in some(Mode.SYNC)} == {None, "crashed", "timeout", "operation_error"}
    assert {"nap", "hazard", "hash_chain", "primes"} <= {job.operation for job in some(Mode.SYNC)}


def test_every_outcome_is_known_beforehand() -> None:
    assert {job.expected.status for job in some(Mode.SYNC)[:100]} == {"succeeded", "failed"}


def test_receivers_that_misbehave_have_urls_of_their_own() -> None:
    queries = [job.callback for job in some(Mode.ASYNC) if job.callback]
    assert 50 < len(queries) == len(set(queries))


def test_a_callback_is_refused_where_its_receiver_says_404() -> None:
    refused = [job for job in some(Mode.ASYNC) if job.refused]
    assert refused
    assert all(("status", "404") in job.callback for job in refused)


def test_sync_work_asks_for_no_callback() -> None:
    assert not any(job.callback or job.refused for job in some(Mode.SYNC))
