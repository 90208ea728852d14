"""G2: a receiver sees a callback once, although requests are recomputed and submitted again."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import pytest
from sqlalchemy.engine import URL

from shared.domain.identity import id_of_reference
from shared.kafka.topics import Topic
from shared.settings import KafkaSettings
from shared.testing.receiver import Receiver
from shared.testing.receiver_calls import ReceiverCalls
from tests.guarantees.support import PATIENCE_S, SECRET, append, events_in, running_system, system_log
from tests.support.waiting import until

pytestmark = [pytest.mark.kafka, pytest.mark.mysql, pytest.mark.slow, pytest.mark.timeout(180)]

SOURCE: Final = "delivery-test"
FINISHED_BEHIND: Final = 300
LONG_ROUNDS: Final = 15_000_000
"""Several seconds of hashing: long enough for everything behind it to be called back."""


async def test_work_finished_behind_a_long_request_is_not_called_back_again_after_a_kill(
    kafka_address: str, mysql_server: URL, tmp_path: Path
) -> None:
    log = system_log(kafka_address)
    async with (
        Receiver(secrets=[SECRET], keep_bodies=True) as receiver,
        running_system(log, mysql_server, tmp_path) as system,
    ):
        calls = ReceiverCalls(receiver)
        behind = [f"behind-{number}" for number in range(FINISHED_BEHIND)]
        await append(
            log,
            [hashing("head", LONG_ROUNDS), *map(hashing, behind)],
            source=SOURCE,
            url=calls.url,
            partition=0,
        )
        await until(lambda: called(calls, behind), PATIENCE_S)
        assert not called(calls, ["head"]), "the head is too short for this test"
        for instance in [each for each in system.services if each.startswith("compute")]:
            system.kill(instance)
        await system.wait_ready()
        await until(lambda: called(calls, ["head"]), PATIENCE_S)
        await append(log, [hashing("last")], source=SOURCE, url=calls.url, partition=0)
        await until(lambda: called(calls, ["last"]), PATIENCE_S)
    assert repeated(calls) == {}


async def test_a_request_that_is_submitted_again_is_not_called_back_again(
    kafka_address: str, mysql_server: URL, tmp_path: Path
) -> None:
    log = system_log(kafka_address)
    async with (
        Receiver(secrets=[SECRET], keep_bodies=True) as receiver,
        running_system(log, mysql_server, tmp_path) as system,
    ):
        calls = ReceiverCalls(receiver)
        references = [f"again-{number}" for number in range(50)]
        requests = [hashing(each) for each in references]
        for partition in (0, 1):
            await append(log, requests, source=SOURCE, url=calls.url, partition=partition)
        await until(lambda: called(calls, references), PATIENCE_S)
        await recorded(log, len(references))
        for instance in [each for each in system.services if each.startswith(("compute", "callback"))]:
            system.kill(instance)
        await system.wait_ready()
        await append(log, [*requests, hashing("last")], source=SOURCE, url=calls.url, partition=0)
        await until(lambda: called(calls, ["last"]), PATIENCE_S)
    assert repeated(calls) == {}


def hashing(reference: str, rounds: int = 1) -> dict[str, Any]:
    return {"operation": "hash_chain", "input": {"seed": reference, "rounds": rounds}, "id": reference}


async def recorded(log: KafkaSettings, count: int) -> None:
    """Return once so many answers are in the log: what is not may come twice after a kill."""
    async with asyncio.timeout(PATIENCE_S):
        while len(await events_in(log, Topic.CALLBACKS)) < count:  # noqa: ASYNC110 - asks the broker
            await asyncio.sleep(0.02)


def called(calls: ReceiverCalls, references: Sequence[str]) -> bool:
    return {id_of_reference(SOURCE, each) for each in references} <= calls.calls().keys()


def repeated(calls: ReceiverCalls) -> dict[str, int]:
    return {webhook_id: len(made) for webhook_id, made in calls.calls().items() if len(made) > 1}
