"""The example of a receiver, run as its readers run it: by uvicorn, against real deliveries."""

import asyncio
import os
import sqlite3
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
import pytest

from shared.domain.callbacks import FailedAttempt, SuccessfulAttempt
from shared.domain.types import JsonText
from shared.testing.receiver import Receiver
from tests.integration.callback_http.support import delivery, dispatch, open_dispatcher, secret

EXAMPLE = Path(__file__).parents[3] / "examples" / "receiver"
BODY = JsonText('{"id":"x","type":"request.finished","status":"succeeded","operation":"primes","result":7}')


@asynccontextmanager
async def example(tmp_path: Path) -> AsyncIterator[str]:
    """The example, listening; its URL."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "uvicorn", "receiver:app", "--port", "0", "--app-dir", str(EXAMPLE)),
        env={
            **os.environ,
            "WEBHOOK_SECRETS": f"{secret('current')} {secret('next')}",
            "DATABASE": str(tmp_path / "receiver.sqlite3"),
        },
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stderr is not None
    try:
        async with asyncio.timeout(30):
            async for line in process.stderr:
                if b"running on" in line:
                    break
        yield line.decode().split("running on ")[1].split()[0] + "/hook"
    finally:
        process.terminate()
        await process.communicate()


async def test_it_acts_on_every_message_once(tmp_path: Path) -> None:
    async with example(tmp_path) as url, open_dispatcher() as sender:
        sent = [replace(delivery(url, number), body=BODY) for number in (1, 2, 1, 1)]
        ends = [await dispatch(sender, each) for each in sent]
    assert all(isinstance(end, SuccessfulAttempt) for end in ends)
    with closing(sqlite3.connect(tmp_path / "receiver.sqlite3")) as connection:
        done = [row[0] for row in connection.execute("SELECT webhook_id FROM done ORDER BY 1")]
    assert done == [sent[0].webhook_id, sent[1].webhook_id]


@pytest.mark.parametrize(
    ("signed_with", "age_s", "status"), [("next", 0, 200), ("foreign", 0, 401), ("current", 600, 401)]
)
async def test_it_takes_what_is_signed_and_fresh(
    tmp_path: Path, signed_with: str, age_s: int, status: int
) -> None:
    async with example(tmp_path) as url, open_dispatcher(secrets=(signed_with,), age_s=age_s) as sender:
        end = await dispatch(sender, replace(delivery(url), body=BODY))
    assert isinstance(end, SuccessfulAttempt | FailedAttempt)
    assert end.status == status


GARBAGE = [
    {"webhook-id": "a", "webhook-timestamp": "soon", "webhook-signature": "v1,x"},
    {"webhook-id": "a", "webhook-timestamp": "NOW", "webhook-signature": "garbage"},
    {"webhook-id": "a", "webhook-timestamp": "NOW", "webhook-signature": "v1,\u00e4"},
    {"webhook-id": "a", "webhook-timestamp": "9" * 400, "webhook-signature": "v1,x"},
    {"webhook-id": "a", "webhook-timestamp": "inf", "webhook-signature": "v1,x"},
    {},
]


async def test_garbage_is_not_genuine_and_too_much_is_not_read(tmp_path: Path) -> None:
    async with example(tmp_path) as url, Receiver(secrets=[secret("current")]) as receiver:
        async with aiohttp.ClientSession() as session:
            for headers in GARBAGE:
                sent = {name: value.replace("NOW", str(int(time.time()))) for name, value in headers.items()}
                for body in (b"{}", b"\xff\xfe"):
                    async with session.post(url, data=body, headers=sent) as response:
                        assert response.status == 401, (headers, body)
                    async with session.post(receiver.url(), data=body, headers=sent) as response:
                        assert response.status == 200
            assert not any(call.signed for call in receiver.calls)
        for address in (url, receiver.url()):
            assert await status_of_a_head(address, b"Content-Length: 1000000000") == 413
        more = b"".join(b"100000\r\n" + b"x" * 0x100000 + b"\r\n" for _ in range(6))
        assert await status_of_a_head(url, b"Transfer-Encoding: chunked\r\n\r\n" + more) == 413


async def status_of_a_head(url: str, rest: bytes) -> int:
    """What a server answers when no more than this has come."""
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    try:
        writer.write(f"POST {parts.path} HTTP/1.1\r\nHost: h\r\n".encode() + rest + b"\r\n\r\n")
        async with asyncio.timeout(10):
            return int((await reader.readline()).split()[1])
    finally:
        writer.close()
