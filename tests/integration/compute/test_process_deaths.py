"""The consumer itself dies, by SIGKILL or by what it computes: every request ends once all the same."""

import signal
import time
from pathlib import Path

import pytest

from services.compute.settings import ComputeSettings
from shared.domain.requests import FailureCode, RequestSucceeded
from shared.domain.types import Mode
from shared.kafka.poison import ATTEMPTS
from shared.kafka.topics import Topic, topic_name
from tests.integration.compute.services import compute_process
from tests.integration.compute.support import bench, hazard, nap
from tests.integration.kafka.support import commit_of, until
from tests.unit.compute.support import descendants, gone

pytestmark = pytest.mark.kafka

SOON_S = 5.0
"""Two seconds are promised, and met on a machine with nothing else to do; to run the dead alone took nine."""


async def test_sigkill_in_mid_work_loses_nothing(settings: ComputeSettings, tmp_path: Path) -> None:
    async with bench(settings) as made, compute_process(settings, tmp_path / "log") as process:
        requests = [nap(5, value) for value in range(200)]
        await made.send(*requests)
        await until(lambda: len(made.results.records) > 20)
        await process.end(signal.SIGKILL)
        await process.start()
        await made.ended(requests)
        for value, each in enumerate(requests):
            results = {event.result for event in made.outcomes(each) if isinstance(event, RequestSucceeded)}
            assert results == {f'{{"value":{value}}}'}


async def test_what_has_ended_long_before_a_sigkill_is_not_computed_again(
    settings: ComputeSettings, tmp_path: Path
) -> None:
    """Although a long request stands at the head of the partition: commits say what is done behind it."""
    async with bench(settings) as made, compute_process(settings, tmp_path / "log") as process:
        head = nap(6_000)
        others = [nap(0, value) for value in range(150)]
        await made.send(head, *others, partition=0)
        await made.ended(others)
        await until(lambda: is_committed(settings, first=1, count=len(others)))
        await process.end(signal.SIGKILL)
        await process.start()
        await made.ended([head])
        assert {len(made.outcomes(each)) for each in others} == {1}


async def is_committed(settings: ComputeSettings, *, first: int, count: int) -> bool:
    """Whether a commit says that these offsets of partition 0 are done."""
    _, metadata = await commit_of(settings, 0, group="compute", topic=Topic.REQUESTS)
    return any(start <= first and start + length >= first + count for start, length in metadata.done)


async def test_no_process_outlives_a_killed_consumer(settings: ComputeSettings, tmp_path: Path) -> None:
    async with bench(settings) as made, compute_process(settings, tmp_path / "log") as process:
        request = hazard("spin_holding_the_lock")
        await made.send(request)
        await until(lambda: bool(made.started(request)))
        below = descendants(process.pid)
        assert len(below) >= 4
        await process.end(signal.SIGKILL)
        await until(lambda: gone(below), timeout_s=2)


@pytest.mark.slow
@pytest.mark.timeout(240)
@pytest.mark.parametrize("kind", ["kill_the_consumer", "kill_the_server"])
async def test_a_request_that_takes_the_consumer_down_ends_failed_at_the_limit(
    settings: ComputeSettings, tmp_path: Path, kind: str
) -> None:
    async with bench(settings) as made, compute_process(settings, tmp_path / "log") as process:
        before = [nap(2, value) for value in range(10)]
        after = [nap(2, value) for value in range(10, 20)]
        elsewhere = [nap(2, value) for value in range(20, 30)]
        poison = hazard(kind)
        replies = topic_name(settings, Topic.REPLIES).encode()
        await made.send(*elsewhere, partition=1)
        await made.send(*before, partition=0)
        await made.send(poison, partition=0, headers=[("reply-topic", replies), ("reply-partition", b"0")])
        await made.send(*after, partition=0)
        sync = nap(1, 99)
        await made.send(sync, mode=Mode.SYNC)
        everybody = [*before, *after, *elsewhere, sync, poison]
        wanted_ids = {each.request_id for each in everybody}
        deaths = await process.supervise(
            lambda: wanted_ids <= {getattr(event, "request_id", None) for event in made.results.events()},
            most=8,
        )
        assert deaths == ATTEMPTS
        error = await made.failure(poison, FailureCode.POISON)
        assert f"{ATTEMPTS} attempts" in error.message
        assert (await made.outcome(poison)).attempts == ATTEMPTS
        letter = (await made.dead_letters())[0]
        assert (letter.reason, letter.request_id, letter.attempts) == ("poison", poison.request_id, ATTEMPTS)
        await until(lambda: bool(made.replies.records))
        for each in everybody[:-1]:
            assert all(isinstance(event, RequestSucceeded) for event in made.outcomes(each))


@pytest.mark.slow
async def test_sync_calls_are_answered_soon_after_two_kills_within_a_backlog(
    settings: ComputeSettings, tmp_path: Path
) -> None:
    """Requests that only waited for a slot are not blamed, and nothing waits for them."""
    async with bench(settings) as made, compute_process(settings, tmp_path / "log") as process:
        backlog = [nap(20, value) for value in range(2_000)]
        await made.send(*backlog)
        for kills in (1, 2):
            await until(lambda: len(made.results.records) > 50 * kills)  # noqa: B023 - awaited right here
            await process.end(signal.SIGKILL)
            await process.start()
        await process.until_ready()
        ready = time.monotonic()
        sync = [nap(0, value) for value in range(20)]
        for each in sync:
            await made.send(each, mode=Mode.SYNC)
        await until(lambda: all(made.outcomes(each) for each in sync))
        assert time.monotonic() - ready < SOON_S
        assert not made.letters.records, "an innocent request was ended"
