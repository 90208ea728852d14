"""Disabling destinations over HTTP, seen by everybody who follows the log."""

import httpx
import pytest

from services.ingest.settings import IngestSettings
from shared.destinations.directory import read_disabled
from shared.domain.destinations import destination_id
from tests.integration.ingest.support import JSON, problem, running, until

pytestmark = [pytest.mark.kafka, pytest.mark.mysql]

URL = "https://example.com/hooks?token=s3cret"


async def change(api: httpx.AsyncClient, what: str, **body: str) -> httpx.Response:
    return await api.post(f"/v1/destinations/{what}", json=body)


async def listed(api: httpx.AsyncClient) -> list[str]:
    response = await api.get("/v1/destinations")
    return [each["id"] for each in response.json()["items"]] if response.status_code == 200 else ["?"]


async def test_what_is_disabled_is_listed_by_every_instance_until_it_is_enabled(
    settings: IngestSettings,
) -> None:
    async with running(settings) as one, running(settings) as other:
        await until(lambda: is_empty(one))
        disabled = await change(one, "disable", url=URL, reason="moved", by="ada")
        assert disabled.status_code == 200, disabled.text
        body = disabled.json()
        assert (body["state"], body["submitter"], body["by"]) == ("disabled", "rest", "ada")
        assert body["id"] == destination_id("rest", URL)
        assert "s3cret" not in disabled.text
        assert await listed(one) == [body["id"]]
        await until(lambda: is_listed(other, body["id"]))
        [state] = await read_disabled(settings)
        assert (state.destination_id, state.disabled_by, state.reason) == (body["id"], "ada", "moved")
        enabled = await change(other, "enable", url=URL)
        assert enabled.json()["state"] == "enabled"
        assert await listed(other) == []
        await until(lambda: is_empty(one))
        assert await read_disabled(settings) == []
        again = await change(one, "enable", url=URL)
        assert again.json()["state"] == "enabled"


async def is_empty(api: httpx.AsyncClient) -> bool:
    return await listed(api) == []


async def is_listed(api: httpx.AsyncClient, destination: str) -> bool:
    return destination in await listed(api)


async def test_submitters_are_told_apart(api: httpx.AsyncClient) -> None:
    await until(lambda: is_empty(api))
    await change(api, "disable", url=URL, submitter="shop")
    await change(api, "enable", url=URL)
    assert await listed(api) == [destination_id("shop", URL)]
    await change(api, "enable", url=URL, submitter="shop")
    assert await listed(api) == []


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "url"),
        ({"url": 7}, "url"),
        ({"url": "ftp://example.com"}, "url"),
        ({"url": "https://user:pw@example.com"}, "url"),
        ({"url": URL, "reason": "x" * 501}, "reason"),
        ({"url": URL, "submitter": ""}, "submitter"),
        ({"url": URL, "reazon": "x"}, "reazon"),
        ([], "body"),
    ],
    ids=str,
)
async def test_a_wrong_field_is_named(api: httpx.AsyncClient, body: object, field: str) -> None:
    await until(lambda: is_empty(api))
    response = await api.post("/v1/destinations/disable", json=body)
    assert problem(response) == (422, "invalid_request")
    assert [each["field"] for each in response.json()["errors"]] == [field]


async def test_broken_json_is_refused(api: httpx.AsyncClient) -> None:
    await until(lambda: is_empty(api))
    response = await api.post("/v1/destinations/disable", content=b"{", headers=JSON)
    assert problem(response) == (400, "malformed_json")
