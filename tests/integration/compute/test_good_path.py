"""Requests of every operation end with the result that anybody can compute."""

import json

import pytest

from services.compute.settings import ComputeSettings
from shared.domain.requests import RequestSucceeded
from shared.domain.types import Mode
from shared.operations.builtin import BUILTIN_OPERATIONS
from shared.operations.model import Operation
from shared.operations.results import encode_result
from tests.integration.compute.services import computing, running
from tests.integration.compute.support import bench, nap, wanted

pytestmark = pytest.mark.kafka


def recomputed(operation: Operation) -> str:
    task = operation.input_model.model_validate_json(json.dumps(operation.example))
    return encode_result(operation.run(task), operation.limits.max_result_bytes).decode()


async def test_every_operation_in_both_modes_ends_with_the_result_of_a_local_run(
    settings: ComputeSettings,
) -> None:
    async with computing(settings) as made:
        asked = [
            (operation, mode, wanted(operation.name, operation.example))
            for operation in BUILTIN_OPERATIONS
            for mode in Mode
        ]
        for _, mode, request in asked:
            await made.send(request, mode=mode)
        for operation, mode, request in asked:
            outcome = await made.outcome(request)
            assert isinstance(outcome, RequestSucceeded)
            assert outcome.result == recomputed(operation)
            assert (outcome.mode, outcome.operation, outcome.attempts) == (mode, operation.name, 1)
        assert not made.letters.records


async def test_the_outcome_tells_the_wait_for_a_slot_from_the_time_in_it(settings: ComputeSettings) -> None:
    async with computing(settings, slots=1) as made:
        first, second = nap(300), nap(1)
        await made.send(first, second, partition=0)
        outcome = await made.outcome(second)
        assert outcome.queue_ms >= 200
        assert 1 <= outcome.compute_ms < 200


async def test_the_callback_url_and_the_reference_are_handed_on(settings: ComputeSettings) -> None:
    async with computing(settings) as made:
        request = nap(1, callback_url="http://127.0.0.1:1/hook", id="order-1")
        await made.send(request)
        outcome = await made.outcome(request)
        assert (outcome.callback_url, outcome.client_reference) == ("http://127.0.0.1:1/hook", "order-1")


async def test_what_was_sent_while_nobody_computed_is_computed(settings: ComputeSettings) -> None:
    async with bench(settings) as made:
        requests = [nap(1, value) for value in range(50)]
        await made.send(*requests)
        async with running(settings):
            counted = await made.ended(requests)
        assert set(counted.values()) == {1}


async def test_a_run_that_lasts_is_announced_and_a_short_one_is_not(settings: ComputeSettings) -> None:
    """The time counts from the start in the slot: the short one waits longer than it takes to announce."""
    async with computing(settings, slots=1) as made:
        long, short = nap(500), nap(1)
        await made.send(long, short, partition=0)
        await made.outcome(short)
        announced = made.started(long)
        assert [(event.attempt, event.worker.split("/")[0]) for event in announced] == [(1, "compute-0")]
        assert not made.started(short)
        kinds = [
            type(each).__name__
            for each in made.results.events()
            if each in [*announced, *made.outcomes(long)]
        ]
        assert kinds == ["RequestStarted", "RequestSucceeded"]
