"""Both ways of submitting, on a real log."""

import asyncio
import hashlib

import httpx
import pytest

from services.ingest.replies import Outcome, PendingReply
from services.ingest.settings import IngestSettings
from shared.domain.requests import RequestSucceeded
from shared.domain.types import JsonText, Mode, facts_of
from shared.kafka.producer import SupervisedProducer
from shared.kafka.records import OutgoingRecord, Position
from shared.kafka.topics import Topic
from tests.integration.ingest.compute_twin import ComputeTwin
from tests.integration.ingest.support import HASH, problem, report, running, stoppable, until

pytestmark = [pytest.mark.kafka, pytest.mark.mysql]


def digest(seed: str, rounds: int) -> str:
    value = seed.encode()
    for _ in range(rounds):
        value = hashlib.sha256(value).digest()
    return value.hex()


async def test_a_sync_call_is_answered_with_its_result(api: httpx.AsyncClient, compute: ComputeTwin) -> None:
    response = await api.post("/v1/requests/sync", json={**HASH, "client_reference": "order-1"})
    assert response.status_code == 200
    body = response.json()
    assert body["status"] == "succeeded"
    assert body["result"] == {"digest": digest("consuma", 3), "rounds": 3}
    assert body["client_reference"] == "order-1"
    [submission] = compute.submissions
    assert body["id"] == submission.request.request_id
    assert (submission.request.mode, submission.request.source) == (Mode.SYNC, "rest")
    assert submission.traceparent is not None


async def test_an_operation_that_fails_is_an_answer_too(api: httpx.AsyncClient, compute: ComputeTwin) -> None:
    compute.failing = True
    response = await api.post("/v1/requests/sync", json=HASH)
    assert response.status_code == 200
    assert response.json()["status"] == "failed"
    assert response.json()["error"] == {
        "code": "crashed",
        "message": "killed by SIGSEGV",
        "signal": "SIGSEGV",
    }


async def test_an_async_call_is_accepted_once_it_is_in_the_log(
    api: httpx.AsyncClient, compute: ComputeTwin
) -> None:
    compute.held = True
    url = "http://127.0.0.1:9/hook"
    response = await api.post("/v1/requests/async", json={**HASH, "callback_url": url, "timeout": 2.5})
    assert response.status_code == 202
    body = response.json()
    assert body["status"] == "accepted"
    assert body["mode"] == "async"
    assert response.headers["location"] == f"/v1/requests/{body['id']}"
    await until(lambda: bool(compute.submissions))
    request = compute.submissions[0].request
    assert (request.request_id, request.callback_url, request.timeout_ms) == (body["id"], url, 2_500)


async def test_a_trace_goes_on_in_the_log(api: httpx.AsyncClient, compute: ComputeTwin) -> None:
    trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    await api.post("/v1/requests/sync", json=HASH, headers={"traceparent": trace})
    await api.post("/v1/requests/sync", json=HASH, headers={"traceparent": "00-none-01"})
    kept, made = (each.traceparent for each in compute.submissions)
    assert kept == trace
    assert made is not None
    assert made.startswith("00-")
    assert len(made) == len(trace)


async def test_a_sync_call_that_outlasts_its_wait_is_accepted(
    api: httpx.AsyncClient, compute: ComputeTwin
) -> None:
    compute.held = True
    response = await api.post("/v1/requests/sync", json=HASH, headers={"Prefer": "respond-async, wait=1"})
    assert response.status_code == 202
    assert response.headers["preference-applied"] == "wait=1"
    assert response.headers["location"] == f"/v1/requests/{response.json()['id']}"
    assert 0.9 < response.elapsed.total_seconds() < 5
    at_once = await api.post("/v1/requests/sync", json=HASH, headers={"Prefer": "wait=0"})
    assert at_once.status_code == 202
    assert at_once.elapsed.total_seconds() < 0.9


async def test_waits_are_capped(settings: IngestSettings, compute: ComputeTwin) -> None:
    compute.held = True
    async with running(settings.model_copy(update={"max_wait_s": 0.2})) as api:
        response = await api.post("/v1/requests/sync", json=HASH, headers={"Prefer": "wait=999999999"})
    assert response.status_code == 202
    assert response.elapsed.total_seconds() < 5


async def test_stopping_releases_those_who_wait(settings: IngestSettings, compute: ComputeTwin) -> None:
    compute.held = True
    stop = asyncio.Event()
    async with stoppable(settings, stop) as api:
        waiting = [asyncio.create_task(api.post("/v1/requests/sync", json=HASH)) for _ in range(20)]
        await until(lambda: len(compute.submissions) == 20)
        stop.set()
        responses = await asyncio.gather(*waiting)
    assert {each.status_code for each in responses} == {202}
    assert {each.json()["id"] for each in responses} == {
        each.request.request_id for each in compute.submissions
    }


async def test_replies_that_nobody_waits_for_are_ignored(
    api: httpx.AsyncClient, compute: ComputeTwin
) -> None:
    """They come late, twice, from others' calls, or are no reply at all; whoever waits is answered."""
    compute.held = True
    late = await api.post("/v1/requests/sync", json=HASH, headers={"Prefer": "wait=0"})
    assert late.status_code == 202
    call = asyncio.create_task(api.post("/v1/requests/sync", json=HASH))
    await until(lambda: len(compute.submissions) == 2)
    old, new = compute.submissions
    assert new.reply_to is not None
    await compute.answer(old)
    await compute.raw_reply(new.reply_to, b"\xff")
    assert not call.done()
    await compute.answer(new)
    await compute.answer(new)
    response = await call
    assert response.json()["id"] == new.request.request_id
    compute.held = False
    assert (await api.post("/v1/requests/sync", json=HASH)).status_code == 200


async def test_two_instances_on_one_partition_of_replies_do_not_mix_them_up(
    settings: IngestSettings, compute: ComputeTwin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.ingest.replies.random.randrange", lambda _: 1)
    async with running(settings) as one, running(settings) as other:
        seeds = [f"s{number}" for number in range(40)]
        calls = [
            (one, other)[number % 2].post(
                "/v1/requests/sync", json={"operation": "hash_chain", "input": {"seed": seed, "rounds": 1}}
            )
            for number, seed in enumerate(seeds)
        ]
        responses = await asyncio.gather(*calls)
    assert [each.json()["result"]["digest"] for each in responses] == [digest(seed, 1) for seed in seeds]
    assert {each.reply_to.partition for each in compute.submissions if each.reply_to} == {1}


async def test_a_reply_that_is_faster_than_the_acknowledgement_is_not_lost(
    api: httpx.AsyncClient, compute: ComputeTwin, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The producer's acknowledgement is held until the reply is there."""
    compute.held = True
    answered = asyncio.Event()
    send = SupervisedProducer.send

    async def slow_send(
        self: SupervisedProducer, record: OutgoingRecord, *, timeout_ms: int | None = None
    ) -> Position:
        position = await send(self, record, timeout_ms=timeout_ms)
        if record.topic is Topic.REQUESTS_SYNC:
            await answered.wait()
        return position

    monkeypatch.setattr(SupervisedProducer, "send", slow_send)
    settled = asyncio.Event()
    settle = PendingReply.settle

    def told(self: PendingReply, outcome: Outcome | None) -> None:
        settle(self, outcome)
        settled.set()

    monkeypatch.setattr(PendingReply, "settle", told)
    call = asyncio.create_task(api.post("/v1/requests/sync", json=HASH))
    await until(lambda: bool(compute.submissions))
    await compute.answer(compute.submissions[0])
    await settled.wait()
    answered.set()
    assert (await call).json()["status"] == "succeeded"


async def test_a_caller_that_hangs_up_frees_its_place(settings: IngestSettings, compute: ComputeTwin) -> None:
    compute.held = True
    async with running(settings.model_copy(update={"max_waiting": 1})) as api:
        with pytest.raises(httpx.ReadTimeout):
            await api.post("/v1/requests/sync", json=HASH, timeout=0.3)

        async def accepted() -> bool:
            response = await api.post("/v1/requests/sync", json=HASH, headers={"Prefer": "wait=0"})
            return response.status_code == 202

        await until(accepted)


async def test_beyond_the_bound_of_waiting_callers_the_answer_is_503(
    settings: IngestSettings, compute: ComputeTwin
) -> None:
    compute.held = True
    async with running(settings.model_copy(update={"max_waiting": 3})) as api:
        waiting = [asyncio.create_task(api.post("/v1/requests/sync", json=HASH)) for _ in range(3)]
        await until(lambda: len(compute.submissions) == 3)
        refused = await api.post("/v1/requests/sync", json=HASH)
        assert problem(refused) == (503, "overloaded")
        assert refused.headers["retry-after"] == "1"
        for each in compute.submissions:
            await compute.answer(each)
        assert {(await each).status_code for each in waiting} == {200}
    assert len(compute.submissions) == 3


async def test_many_calls_at_once_get_their_own_answers(api: httpx.AsyncClient, compute: ComputeTwin) -> None:
    async def call(number: int) -> None:
        body = {"operation": "hash_chain", "input": {"seed": str(number), "rounds": 2}}
        response = await api.post("/v1/requests/sync", json=body)
        assert response.json()["result"]["digest"] == digest(str(number), 2)

    await asyncio.gather(*map(call, range(300)))
    report(f"{len(compute.submissions)} sync calls")


async def test_a_result_is_passed_on_as_the_very_text_that_was_computed(
    api: httpx.AsyncClient, compute: ComputeTwin
) -> None:
    compute.held = True
    call = asyncio.create_task(api.post("/v1/requests/sync", json=HASH))
    await until(lambda: bool(compute.submissions))
    [submission] = compute.submissions
    assert submission.reply_to is not None
    outcome = RequestSucceeded(
        **facts_of(submission.request), attempts=1, finished_at_ms=1, result=JsonText('{"x":[1.0,-0.0,1e3]}')
    )
    await compute.reply(submission.reply_to, outcome)
    assert '"result":{"x":[1.0,-0.0,1e3]}' in (await call).text
