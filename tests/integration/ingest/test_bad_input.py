"""What callers get wrong, on a real socket: a clear problem each, and nothing in the log."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Any

import httpx
import pytest

from services.ingest import metrics
from services.ingest.settings import IngestSettings
from tests.integration.ingest.compute_twin import ComputeTwin
from tests.integration.ingest.support import HASH, JSON, gauge, problem, running, until

pytestmark = [pytest.mark.kafka, pytest.mark.mysql]

SYNC = "/v1/requests/sync"
ASYNC = "/v1/requests/async"
LIMIT = 1024 * 1024


def hash_of(**fields: object) -> dict[str, Any]:
    return {**HASH, **fields}


def deep(levels: int) -> bytes:
    return b'{"operation":"hash_chain","input":' + b"[" * levels + b"]" * levels + b"}"


@pytest.mark.parametrize(
    ("body", "status", "code", "field"),
    [
        (hash_of(operation="nope"), 422, "unknown_operation", "operation"),
        (hash_of(operation=""), 422, "invalid_request", "operation"),
        (hash_of(operation=7), 422, "invalid_request", "operation"),
        ({"input": {}}, 422, "invalid_request", "operation"),
        (hash_of(input={}), 422, "invalid_input", "input.seed"),
        (hash_of(input={"seed": "s", "rounds": "3"}), 422, "invalid_input", "input.rounds"),
        (hash_of(input={"seed": "s", "round": 3}), 422, "invalid_input", "input.round"),
        (hash_of(input=[]), 422, "invalid_input", "input"),
        (hash_of(timeout=0), 422, "invalid_request", "timeout"),
        (hash_of(timeout=301), 422, "invalid_request", "timeout"),
        (hash_of(timeout="soon"), 422, "invalid_request", "timeout"),
        (hash_of(expires_at="tomorrow"), 422, "invalid_request", "expires_at"),
        (hash_of(expires_at="2030-01-01T00:00:00"), 422, "invalid_request", "expires_at"),
        (hash_of(client_reference="x" * 256), 422, "invalid_request", "client_reference"),
        (hash_of(calback_url="http://example.com"), 422, "invalid_request", "calback_url"),
        (hash_of(id="7"), 422, "invalid_request", "id"),
        (hash_of(source="me"), 422, "invalid_request", "source"),
        (hash_of(digest="0"), 422, "invalid_request", "digest"),
        ([], 422, "invalid_request", "body"),
        ("text", 422, "invalid_request", "body"),
        (7, 422, "invalid_request", "body"),
    ],
    ids=str,
)
async def test_a_wrong_field_is_named(
    api: httpx.AsyncClient, body: object, status: int, code: str, field: str
) -> None:
    for path in (SYNC, ASYNC):
        response = await api.post(path, json=body)
        assert problem(response) == (status, code)
        assert field in [each["field"] for each in response.json()["errors"]]


@pytest.mark.parametrize(
    "url",
    [
        "ftp://example.com/x",
        "example.com/x",
        "",
        "http://",
        "http:///x",
        "https://user@example.com/",
        "https://user:secret@example.com/",
        "http://exa mple.com/",
        "http://example.com/\n",
        "http://example.com:0/",
        "http://example.com:99999/",
        "http://[::1/",
        "javascript:alert(1)",
        "file:///etc/passwd",
        "http://example.com/" + "x" * 2048,
    ],
    ids=lambda url: url[:40],
)
async def test_a_callback_url_that_cannot_be_called_is_refused(api: httpx.AsyncClient, url: str) -> None:
    response = await api.post(ASYNC, json=hash_of(callback_url=url))
    assert problem(response) == (422, "invalid_request")
    assert [each["field"] for each in response.json()["errors"]] == ["callback_url"]
    assert "secret" not in response.text


async def test_a_sync_call_takes_no_callback_url(api: httpx.AsyncClient) -> None:
    response = await api.post(SYNC, json=hash_of(callback_url="http://example.com/"))
    assert problem(response) == (422, "invalid_request")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"{]",
        b'{"operation":"hash_chain","input":{"seed":"x"}} trailing',
        b'{"operation":"hash_chain","input":{"seed":NaN}}',
        b'{"operation":"hash_chain","input":{"seed":Infinity}}',
        b'{"operation":"hash_chain","input":{"rounds":9223372036854775808,"seed":""}}',
        b'{"operation":"hash_chain","input":{"rounds":-9223372036854775809,"seed":""}}',
        b'{"operation":"hash_chain","input":{"rounds":' + b"9" * 5_000 + b"}}",
        b'{"operation":"hash_chain","input":{"seed":"\\ud800"}}',
        b'{"operation":"hash_chain","input":{"\\udfff":1}}',
        b'{"operation":"hash_chain","input":{"seed":"\xff"}}',
        b'\xef\xbb\xbf{"operation":"hash_chain"}',
        b"\x00",
        deep(33),
        deep(100_000),
    ],
    ids=lambda body: str(body[:60]),
)
async def test_json_that_readers_would_not_agree_on_is_refused(api: httpx.AsyncClient, body: bytes) -> None:
    for path in (SYNC, ASYNC):
        response = await api.post(path, content=body, headers=JSON)
        assert problem(response) == (400, "malformed_json")


@pytest.mark.parametrize(
    "media_type", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""], ids=str
)
async def test_only_json_is_taken(api: httpx.AsyncClient, media_type: str) -> None:
    """A form of a page in a browser could be sent here without the browser's asking."""
    response = await api.post(ASYNC, content=b"{}", headers={"Content-Type": media_type})
    assert problem(response) == (415, "unsupported_media_type")


async def test_compressed_bodies_are_not_taken(api: httpx.AsyncClient) -> None:
    response = await api.post(ASYNC, content=b"\x1f\x8b", headers={**JSON, "Content-Encoding": "gzip"})
    assert problem(response) == (415, "unsupported_media_type")


def body_of(size: int) -> bytes:
    """A body of exactly `size` bytes that is fine but for its size."""
    return b'{"operation":"hash_chain","input":{"seed":"x"}}'.ljust(size)


async def in_chunks(body: bytes, size: int = 60_000) -> AsyncIterator[bytes]:
    for start in range(0, len(body), size):
        yield body[start : start + size]


async def test_the_largest_body_is_taken_and_one_byte_more_is_not(
    api: httpx.AsyncClient, compute: ComputeTwin
) -> None:
    compute.held = True
    for body in (body_of(LIMIT), in_chunks(body_of(LIMIT))):
        taken = await api.post(ASYNC, content=body, headers=JSON)
        assert taken.status_code == 202, taken.text
    for body in (body_of(LIMIT + 1), in_chunks(body_of(LIMIT + 1)), body_of(7 * LIMIT)):
        assert problem(await api.post(ASYNC, content=body, headers=JSON)) == (413, "body_too_large")
    await until(lambda: len(compute.submissions) == 2)


async def raw(api: httpx.AsyncClient, head: str, body: bytes = b"", *, patience_s: float = 20) -> bytes:
    """What the server answers to bytes on a socket, until it hangs up or falls silent after an answer."""
    reader, writer = await asyncio.open_connection(api.base_url.host, api.base_url.port)
    try:
        writer.write(head.replace("\n", "\r\n").encode() + b"\r\n" + body)
        await writer.drain()
        async with asyncio.timeout(patience_s):
            return await reader.readuntil(b"}")
    finally:
        writer.close()


def head_of(api: httpx.AsyncClient, *headers: str, path: str = ASYNC) -> str:
    lines = [f"POST {path} HTTP/1.1", f"Host: 127.0.0.1:{api.base_url.port}", *headers]
    return "\n".join(lines) + "\n"


async def test_a_declared_giant_is_refused_before_it_is_sent(api: httpx.AsyncClient) -> None:
    head = head_of(api, "Content-Type: application/json", "Content-Length: 99999999999")
    answer = await raw(api, head)
    assert b" 413 " in answer
    assert b"connection: close" in answer.lower()


async def test_an_endless_body_is_cut_off(api: httpx.AsyncClient) -> None:
    head = head_of(api, "Content-Type: application/json", "Transfer-Encoding: chunked")
    chunk = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"
    assert b" 413 " in await raw(api, head, chunk * 200)


async def test_a_slow_body_is_not_waited_for(settings: IngestSettings) -> None:
    async with running(settings.model_copy(update={"body_timeout_s": 0.3})) as api:
        head = head_of(api, "Content-Type: application/json", "Content-Length: 100")
        answer = await raw(api, head, b'{"operation"')
        assert b" 408 " in answer
        assert b'"body_timeout"' in answer


async def test_bodies_in_work_share_bounded_memory(settings: IngestSettings) -> None:
    """Whoever sends a body slowly holds memory; beyond the bound others are refused."""
    half = LIMIT // 2
    async with running(settings.model_copy(update={"body_memory_bytes": LIMIT})) as api:
        head = head_of(api, "Content-Type: application/json", f"Content-Length: {LIMIT}")
        async with AsyncExitStack() as holding:
            for number in (1, 2):
                writer = await holding.enter_async_context(connection(api))
                writer.write(head.replace("\n", "\r\n").encode() + b"\r\n" + b" " * half)
                await until(partial(holding_exactly, number * half))
            assert problem(await api.post(ASYNC, json=HASH)) == (503, "overloaded")
        await until(lambda: held_bytes() == 0)
        assert (await api.post(ASYNC, content=body_of(LIMIT), headers=JSON)).status_code == 202
    assert held_bytes() == 0


@asynccontextmanager
async def connection(api: httpx.AsyncClient) -> AsyncIterator[asyncio.StreamWriter]:
    _, writer = await asyncio.open_connection(api.base_url.host, api.base_url.port)
    try:
        yield writer
    finally:
        writer.close()


def holding_exactly(size: int) -> bool:
    return held_bytes() == size


def held_bytes() -> float:
    return gauge(metrics.BODY_BYTES)


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "", "[::2]"])
async def test_only_the_own_names_are_answered_to(api: httpx.AsyncClient, host: str) -> None:
    """A page in a browser may have its name resolved to this machine."""
    response = await api.get("/v1/operations", headers={"Host": host})
    assert problem(response) == (421, "forbidden_host")
    assert (await api.get("/health/live", headers={"Host": host})).status_code == 200


async def test_a_name_can_be_allowed(settings: IngestSettings) -> None:
    async with running(settings.model_copy(update={"allowed_hosts": ("consuma.internal",)})) as api:
        for host in ("consuma.internal:8000", "localhost:1", "[::1]:80", "CONSUMA.internal"):
            assert (await api.get("/v1/operations", headers={"Host": host})).status_code == 200


async def test_paths_and_methods_that_are_not_there(api: httpx.AsyncClient) -> None:
    assert problem(await api.get("/v2/requests")) == (404, "not_found")
    wrong = await api.put("/v1/requests")
    assert problem(wrong) == (405, "method_not_allowed")
    assert wrong.headers["allow"] == "GET"


@pytest.mark.parametrize("key", ["", "x" * 256, "naïve", "a\tb"], ids=str)
async def test_an_idempotency_key_that_cannot_be_one(api: httpx.AsyncClient, key: str) -> None:
    response = await api.post(ASYNC, json=HASH, headers={b"Idempotency-Key": key.encode()})
    assert problem(response) == (400, "invalid_header")


async def test_nothing_that_was_refused_is_in_the_log(api: httpx.AsyncClient, compute: ComputeTwin) -> None:
    await api.post(ASYNC, json=hash_of(operation="nope"))
    await api.post(SYNC, content=b"{", headers=JSON)
    await api.post(ASYNC, content=body_of(LIMIT + 1), headers=JSON)
    response = await api.post(ASYNC, json=HASH)
    await until(lambda: bool(compute.submissions))
    assert [each.request.request_id for each in compute.submissions] == [response.json()["id"]]
