"""What became of requests, asked over HTTP of a real log, projector and database."""

import asyncio
import signal
import subprocess
import uuid

import httpx
import pytest
from aiokafka import AIOKafkaProducer

from services.ingest import metrics
from services.ingest.settings import IngestSettings
from shared.kafka.topics import Topic, topic_name
from tests.integration.ingest.compute_twin import ComputeTwin
from tests.integration.ingest.support import HASH, gauge, problem, report, running, until

pytestmark = [pytest.mark.kafka, pytest.mark.mysql]

Projector = subprocess.Popen[bytes]


async def submit(api: httpx.AsyncClient, mode: str = "async", **fields: object) -> str:
    response = await api.post(
        f"/v1/requests/{mode}",
        json={**HASH, **fields},
        headers={"Prefer": "wait=0"} if mode == "sync" else {},
    )
    assert response.status_code == 202, response.text
    return str(response.json()["id"])


async def listed(api: httpx.AsyncClient, **filters: str | float) -> list[str]:
    """Every id of a listing, page after page."""
    found: list[str] = []
    cursor: dict[str, str] = {}
    while True:
        page = (await api.get("/v1/requests", params={"limit": 3, **filters, **cursor})).json()
        found += [each["id"] for each in page["items"]]
        if page["next"] is None:
            return found
        assert len(page["items"]) == filters.get("limit", 3)
        cursor = {"cursor": page["next"]}


async def test_an_accepted_id_is_found_at_once(
    api: httpx.AsyncClient, projector: Projector, compute: ComputeTwin
) -> None:
    """Every one of them is asked for right after its acceptance; none is ever unknown."""
    compute.held = True
    waits = []
    for _ in range(60):
        request_id = await submit(api)
        response = await api.get(f"/v1/requests/{request_id}")
        assert response.status_code == 200, response.text
        assert response.json()["input"] == HASH["input"]
        waits.append(response.elapsed.total_seconds() * 1000)
    waits.sort()
    report(f"202 to visible by id: p50 {waits[30]:.0f} ms, worst {waits[-1]:.0f} ms")


async def test_behind_a_lagging_projection_nothing_accepted_is_unknown(
    settings: IngestSettings, api: httpx.AsyncClient, projector: Projector, compute: ComputeTwin
) -> None:
    compute.held = True
    await until(lambda: is_found(api))
    projector.send_signal(signal.SIGSTOP)
    try:
        request_id = await submit(api)
        for each in (request_id, str(uuid.uuid4())):
            response = await api.get(f"/v1/requests/{each}")
            assert problem(response) == (503, "not_visible_yet")
            assert response.headers["retry-after"] == "1"
            assert response.elapsed.total_seconds() < 2.2
        waiting = asyncio.create_task(api.get(f"/v1/requests/{request_id}"))
    finally:
        projector.send_signal(signal.SIGCONT)
    assert (await waiting).status_code == 200
    assert problem(await api.get(f"/v1/requests/{uuid.uuid4()}")) == (404, "request_not_found")


async def is_found(api: httpx.AsyncClient) -> bool:
    return (await api.get(f"/v1/requests/{await submit(api)}")).status_code == 200


async def test_what_an_open_transaction_holds_back_is_not_called_unknown(
    settings: IngestSettings, api: httpx.AsyncClient, projector: Projector, compute: ComputeTwin
) -> None:
    """Somebody else's open transaction hides what ingest appends behind it from every reader."""
    compute.held = True
    topic = topic_name(settings, Topic.REQUESTS)
    producer = AIOKafkaProducer(
        bootstrap_servers=settings.kafka,
        transactional_id=f"{settings.topic_prefix}tx",
        transaction_timeout_ms=10_000,
    )
    async with producer:
        await producer.begin_transaction()
        for partition in range(settings.partitions):
            await producer.send_and_wait(topic, value=b"{}", partition=partition)
        request_id = await submit(api)
        assert problem(await api.get(f"/v1/requests/{request_id}")) == (503, "not_visible_yet")
        await producer.abort_transaction()
    response = await api.get(f"/v1/requests/{request_id}")
    assert response.status_code == 200, response.text


@pytest.mark.parametrize("request_id", ["abc", "00000000-0000-0000-0000", "%00", "x" * 300])
async def test_what_is_no_id_is_unknown(api: httpx.AsyncClient, request_id: str) -> None:
    assert problem(await api.get(f"/v1/requests/{request_id}")) == (404, "request_not_found")


async def test_filters_and_paging(
    settings: IngestSettings, projector: Projector, compute: ComputeTwin
) -> None:
    async with running(settings) as api:
        mark = uuid.uuid4().hex
        asynchronous = [await submit(api, client_reference=f"{mark}-{number}") for number in range(8)]
        synchronous = [await submit(api, "sync", client_reference=mark) for _ in range(7)]
        await until(lambda: len(compute.submissions) == 15)
        compute.failing = True
        failed = [await submit(api, callback_url="http://127.0.0.1:9/") for _ in range(5)]
        since = compute.submissions[0].request.accepted_at_ms / 1000

        async def all_shown() -> bool:
            done = await listed(api, status="succeeded", since=since, limit=100)
            failures = await listed(api, status="failed", since=since, limit=100)
            return len(done) == 15 and len(failures) == 5

        await until(all_shown)
        assert await listed(api, mode="sync", status="succeeded", since=since) == synchronous[::-1]
        assert await listed(api, mode="async", status="succeeded", since=since) == asynchronous[::-1]
        assert await listed(api, mode="async", status="failed", since=since) == failed[::-1]
        assert await listed(api, mode="async", callback_status="pending", since=since) == failed[::-1]
        assert await listed(api, mode="sync", status="failed", since=since) == []
        assert await listed(api, since=since) == (asynchronous + synchronous + failed)[::-1]
        assert (
            await listed(api, source="rest", operation="hash_chain", since=since, limit=2)
            == ((asynchronous + synchronous + failed)[::-1])
        )
        assert await listed(api, operation="primes") == []
        assert await listed(api, since=since, until=since) == []
        assert await listed(api, q=mark) == synchronous[::-1]
        assert await listed(api, q=f"{mark}-3") == [asynchronous[3]]
        assert await listed(api, q=failed[0][:13].upper()) == [failed[0]]
        stats = (await api.get("/v1/stats", params={"window": "1h"})).json()
        assert stats["total"] == sum(each["count"] for each in stats["items"])
        [counted] = [each for each in stats["items"] if (each["mode"], each["status"]) == ("async", "failed")]
        assert counted["count"] == 5


@pytest.mark.parametrize(
    ("query", "code", "field"),
    [
        ("mode=batch", "invalid_request", "mode"),
        ("status=done", "invalid_request", "status"),
        ("callback_status=x", "invalid_request", "callback_status"),
        ("limit=0", "invalid_request", "limit"),
        ("limit=501", "invalid_request", "limit"),
        ("limit=ten", "invalid_request", "limit"),
        ("since=yesterday", "invalid_request", "since"),
        ("since=2030-01-01T00:00:00", "invalid_request", "since"),
        ("q=", "invalid_request", "q"),
        ("stauts=failed", "invalid_request", "stauts"),
        ("cursor=x", "invalid_cursor", "cursor"),
        ("cursor=%00", "invalid_cursor", "cursor"),
        ("cursor=AAAAAAAAAAAAAAAAAAAAAAAAAAAA", "invalid_cursor", "cursor"),
    ],
)
async def test_a_filter_that_cannot_be_used_is_named(
    api: httpx.AsyncClient, query: str, code: str, field: str
) -> None:
    response = await api.get(f"/v1/requests?{query}")
    assert problem(response) == (422, code)
    assert field in [each["field"] for each in response.json()["errors"]]


async def test_a_cursor_belongs_to_its_filters(
    api: httpx.AsyncClient, projector: Projector, compute: ComputeTwin
) -> None:
    compute.held = True
    for _ in range(3):
        last = await submit(api)
    assert (await api.get(f"/v1/requests/{last}")).status_code == 200
    page = (await api.get("/v1/requests", params={"limit": 1, "mode": "async"})).json()
    other = await api.get("/v1/requests", params={"limit": 1, "mode": "sync", "cursor": page["next"]})
    assert problem(other) == (422, "invalid_cursor")


@pytest.mark.parametrize("window", ["", "0h", "1w", "-1h", "99999999d", "h"])
async def test_a_window_that_cannot_be_used(api: httpx.AsyncClient, window: str) -> None:
    assert problem(await api.get("/v1/stats", params={"window": window})) == (422, "invalid_request")


async def test_a_long_poll_ends_with_the_outcome(
    api: httpx.AsyncClient, projector: Projector, compute: ComputeTwin
) -> None:
    compute.held = True
    request_id = await submit(api)
    early = await api.get(f"/v1/requests/{request_id}", params={"wait": 0.2})
    assert early.json()["status"] == "accepted"
    waiting = asyncio.create_task(api.get(f"/v1/requests/{request_id}", params={"wait": 30}))
    await until(lambda: bool(compute.submissions))
    await compute.answer(compute.submissions[0])
    detail = (await waiting).json()
    assert detail["status"] == "succeeded"
    assert detail["result"]["rounds"] == 3
    assert [each["type"] for each in detail["events"]] == [
        "consuma.request.submitted.v1",
        "consuma.request.succeeded.v1",
    ]
    assert problem(await api.get(f"/v1/requests/{uuid.uuid4()}", params={"wait": 5}))[0] == 404
    assert problem(await api.get(f"/v1/requests/{request_id}", params={"wait": -1}))[0] == 422


async def test_long_polls_are_bounded(
    settings: IngestSettings, projector: Projector, compute: ComputeTwin
) -> None:
    compute.held = True
    async with running(settings.model_copy(update={"max_polling": 2})) as api:
        request_id = await submit(api)
        path = f"/v1/requests/{request_id}"
        waiting = [asyncio.create_task(api.get(path, params={"wait": 30})) for _ in range(2)]
        await until(lambda: gauge(metrics.POLLING) == 2)
        refused = await api.get(path, params={"wait": 30})
        assert problem(refused) == (503, "overloaded")
        assert (await api.get(path)).status_code == 200
        await until(lambda: bool(compute.submissions))
        await compute.answer(compute.submissions[0])
        assert [(await each).json()["status"] for each in waiting] == ["succeeded", "succeeded"]


async def test_a_cancellation_is_in_the_log_before_the_answer(
    api: httpx.AsyncClient, projector: Projector, compute: ComputeTwin
) -> None:
    compute.held = True
    request_id = await submit(api)
    response = await api.delete(f"/v1/requests/{request_id.upper()}")
    assert response.status_code == 202
    assert response.json()["id"] == request_id
    assert response.headers["location"] == f"/v1/requests/{request_id}"

    async def shown() -> bool:
        events = (await api.get(f"/v1/requests/{request_id}")).json()["events"]
        return "consuma.request.cancelled.v1" in [each["type"] for each in events]

    await until(shown)
    await compute.answer(compute.submissions[0])
    await api.get(f"/v1/requests/{request_id}", params={"wait": 30})
    assert problem(await api.delete(f"/v1/requests/{request_id}")) == (409, "already_finished")
    assert problem(await api.delete(f"/v1/requests/{uuid.uuid4()}")) == (404, "request_not_found")


async def test_secrets_in_urls_are_not_shown(
    api: httpx.AsyncClient, projector: Projector, compute: ComputeTwin
) -> None:
    compute.held = True
    request_id = await submit(api, callback_url="http://127.0.0.1:9/hook?token=s3cret")
    shown = await api.get(f"/v1/requests/{request_id}")
    pages = await api.get("/v1/requests", params={"q": request_id})
    for each in (shown, pages):
        assert "127.0.0.1:9/hook" in each.text
        assert "s3cret" not in each.text
