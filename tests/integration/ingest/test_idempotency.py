"""Repeating a submission with an Idempotency-Key, seen by memory, by the read side, or by nobody."""

import asyncio
import secrets
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest
from pydantic import SecretStr
from sqlalchemy.engine import make_url

from services.ingest.settings import IngestSettings
from tests.integration.ingest.compute_twin import ComputeTwin
from tests.integration.ingest.support import HASH, problem, running, until
from tests.support.tcp_proxy import TcpProxy

pytestmark = [pytest.mark.kafka, pytest.mark.mysql, pytest.mark.usefixtures("projector")]

OTHER = {**HASH, "input": {"seed": "consuma", "rounds": 4}}
RESPELT = b'{"input": {"rounds":3,  "seed":"cons\\u0075ma"},"operation":"hash_chain"}'
Projector = subprocess.Popen[bytes]


@pytest.fixture
def key() -> dict[str, str]:
    return {"Idempotency-Key": f"order-{secrets.token_hex(4)}"}


@asynccontextmanager
async def database_away(settings: IngestSettings) -> AsyncIterator[tuple[IngestSettings, TcpProxy]]:
    """Settings whose database is reached through a proxy that can hang, and the proxy."""
    target = make_url(settings.mysql.get_secret_value())
    async with TcpProxy(target.host or "", target.port or 3306) as proxy:
        url = target.set(host="127.0.0.1", port=proxy.port).render_as_string(hide_password=False)
        yield settings.model_copy(update={"mysql": SecretStr(url), "idempotency_lookup_ms": 100}), proxy


async def until_visible(api: httpx.AsyncClient, request_id: str, status: str = "accepted") -> None:
    async def visible() -> bool:
        response = await api.get(f"/v1/requests/{request_id}")
        return response.status_code == 200 and response.json()["status"] == status

    await until(visible)


async def test_the_same_body_gets_the_same_answer(
    api: httpx.AsyncClient, compute: ComputeTwin, key: dict[str, str]
) -> None:
    compute.held = True
    first = await api.post("/v1/requests/async", json=HASH, headers=key)
    again = await api.post(
        "/v1/requests/async", content=RESPELT, headers={**key, "Content-Type": "application/json"}
    )
    assert (first.status_code, again.status_code) == (202, 202)
    assert again.json() == first.json()
    assert again.headers["location"] == first.headers["location"]
    assert "idempotency-replayed" not in first.headers
    assert again.headers["idempotency-replayed"] == "true"
    await until(lambda: bool(compute.submissions))
    other = await api.post("/v1/requests/async", json=HASH)
    await until(lambda: len(compute.submissions) == 2)
    assert other.json()["id"] != first.json()["id"]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/requests/async", OTHER),
        ("/v1/requests/async", {**HASH, "callback_url": "http://127.0.0.1:9/"}),
        ("/v1/requests/async", {**HASH, "timeout": 1}),
        ("/v1/requests/sync", HASH),
    ],
    ids=str,
)
async def test_another_request_under_the_key_is_refused(
    api: httpx.AsyncClient, key: dict[str, str], path: str, body: dict[str, object]
) -> None:
    await api.post("/v1/requests/async", json=HASH, headers=key)
    assert problem(await api.post(path, json=body, headers=key)) == (422, "idempotency_key_reused")


async def test_another_instance_learns_of_it_from_the_read_side(
    settings: IngestSettings, compute: ComputeTwin, key: dict[str, str]
) -> None:
    async with running(settings) as one, running(settings) as other:
        first = await one.post("/v1/requests/async", json=HASH, headers=key)
        await until_visible(other, first.json()["id"], "succeeded")
        again = await other.post("/v1/requests/async", json=HASH, headers=key)
        assert again.json()["id"] == first.json()["id"]
        assert again.headers["idempotency-replayed"] == "true"
        refused = await other.post("/v1/requests/async", json=OTHER, headers=key)
        assert problem(refused) == (422, "idempotency_key_reused")
    assert len(compute.submissions) == 1


async def test_a_repeated_sync_call_gets_the_outcome_of_the_first(
    api: httpx.AsyncClient, compute: ComputeTwin, key: dict[str, str]
) -> None:
    first = await api.post("/v1/requests/sync", json=HASH, headers=key)
    again = await api.post("/v1/requests/sync", json=HASH, headers=key)
    assert (first.status_code, again.status_code) == (200, 200)
    assert again.headers["idempotency-replayed"] == "true"
    for field in ("id", "status", "mode", "operation", "result", "attempts", "accepted_at", "finished_at"):
        assert again.json()[field] == first.json()[field]
    assert len(compute.submissions) == 1


async def test_a_repeated_sync_call_waits_for_the_outcome(
    api: httpx.AsyncClient, compute: ComputeTwin, key: dict[str, str]
) -> None:
    compute.held = True
    first = await api.post("/v1/requests/sync", json=HASH, headers={**key, "Prefer": "wait=0"})
    assert first.status_code == 202
    early = await api.post("/v1/requests/sync", json=HASH, headers={**key, "Prefer": "wait=0"})
    assert early.status_code == 202
    assert early.json()["id"] == first.json()["id"]
    waiting = asyncio.create_task(api.post("/v1/requests/sync", json=HASH, headers=key))
    await until(lambda: bool(compute.submissions))
    await compute.answer(compute.submissions[0])
    response = await waiting
    assert response.status_code == 200
    assert response.json()["id"] == first.json()["id"]


async def test_two_at_once_are_one_request(
    settings: IngestSettings, compute: ComputeTwin, key: dict[str, str]
) -> None:
    """Neither has seen the other: both are in the log, under one id, and both are answered."""
    async with running(settings) as one, running(settings) as other:
        calls = [api.post("/v1/requests/sync", json=HASH, headers=key) for api in (one, other) * 5]
        responses = await asyncio.gather(*calls)
    assert {each.status_code for each in responses} == {200}
    assert len({each.json()["id"] for each in responses}) == 1
    assert len({each.json()["result"]["digest"] for each in responses}) == 1


async def test_the_first_of_two_different_ones_wins(
    settings: IngestSettings, compute: ComputeTwin, key: dict[str, str]
) -> None:
    """An instance that cannot see the first accepts the second, and the log decides."""
    compute.held = True
    async with database_away(settings) as (away, proxy), running(settings) as one, running(away) as other:
        proxy.hang()
        first = await one.post("/v1/requests/async", json=HASH, headers=key)
        second = await other.post("/v1/requests/async", json=OTHER, headers=key)
        assert (first.status_code, second.status_code) == (202, 202)
        request_id = first.json()["id"]
        assert second.json()["id"] == request_id
        await until(lambda: len(compute.submissions) == 2)

        async def both_shown() -> bool:
            detail = (await one.get(f"/v1/requests/{request_id}")).json()
            return len(detail.get("events", ())) == 2

        await until(both_shown)
        detail = (await one.get(f"/v1/requests/{request_id}")).json()
    assert detail["input"] == HASH["input"]
    assert [each["superseded"] for each in detail["events"]] == [False, True]


async def test_without_the_database_a_repetition_is_accepted_under_the_same_id(
    settings: IngestSettings, compute: ComputeTwin, key: dict[str, str]
) -> None:
    """Submitting goes on; memory still tells one's own repetitions, and the first record of an id wins."""
    async with database_away(settings) as (away, proxy), running(away) as one, running(away) as other:
        proxy.hang()
        first = await one.post("/v1/requests/async", json=HASH, headers=key)
        again = await other.post("/v1/requests/async", json=HASH, headers=key)
        own = await one.post("/v1/requests/async", json=OTHER, headers=key)
    assert (first.status_code, again.status_code) == (202, 202)
    assert again.json()["id"] == first.json()["id"]
    assert "idempotency-replayed" not in again.headers
    assert problem(own) == (422, "idempotency_key_reused")
    assert again.elapsed.total_seconds() < 1.5
    await until(lambda: len(compute.submissions) == 2)
