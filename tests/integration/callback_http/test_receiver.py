"""The receiver for trying things out: as a command, by its control calls, and by its count of duplicates."""

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import pytest

from shared.testing.receiver import Receiver
from shared.testing.receiver_behaviour import Behaviour, BehaviourError, Deed, parse_behaviour
from tests.integration.callback_http.support import delivery, dispatch, open_dispatcher, secret


@asynccontextmanager
async def command(*arguments: str) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    """`consuma receiver …`, and where it listens."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        "from infra.cli.main import main; main()",
        "receiver",
        "--port",
        "0",
        *arguments,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        yield process, (await process.stdout.readline()).decode().split()[-1]
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def test_it_prints_a_line_for_each_call_and_ends_when_told() -> None:
    async with command("--secret", secret("current")) as (process, url), open_dispatcher() as sender:
        await dispatch(sender, delivery(url))
        await dispatch(sender, delivery(f"{url}?status=500"))
        assert process.stdout is not None
        first, second = [(await process.stdout.readline()).decode() for _ in range(2)]
        process.send_signal(signal.SIGTERM)
        last = (await process.stdout.read()).decode()
        assert await process.wait() == 0
    assert delivery(url).webhook_id in first
    assert " signed  try 1  -> 200" in first
    assert "try 2  -> 500" in second
    assert last.startswith("1 accepted, 0 more than once")


async def test_a_behaviour_that_does_not_exist_is_told() -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        "from infra.cli.main import main; main()",
        "receiver",
        "--behaviour",
        "do=fly",
        stderr=asyncio.subprocess.PIPE,
    )
    _, complained = await process.communicate()
    assert process.returncode == 2
    assert b"fly" in complained
    assert b"drip" in complained


async def test_it_is_told_and_asked_over_http() -> None:
    async with Receiver() as receiver, aiohttp.ClientSession(f"http://127.0.0.1:{receiver.port}") as session:
        async with session.put("/-/behaviour?path=/a&status=503&first=1") as answer:
            assert answer.status == 204
        statuses = []
        for _ in range(3):
            async with session.post("/a", data=b"{}", headers={"webhook-id": "x"}) as answer:
                statuses.append(answer.status)
        async with session.post("/b?status=5xx") as answer:
            assert (answer.status, "status" in await answer.text()) == (400, True)
        async with session.get("/-/calls") as answer:
            counts = json.loads(await answer.text())
    assert statuses == [503, 200, 200]
    assert counts == {
        "calls": 3,
        "ids": 1,
        "accepted": 2,
        "duplicates": {"x": 2},
        "unsigned": 0,
        "connections": 1,
    }


def test_a_behaviour_is_read_from_a_query() -> None:
    read = parse_behaviour({"do": "hang", "first": "2", "keep": "no", "delay_ms": "1.5"})
    assert read == Behaviour(do=Deed.HANG, first=2, keep=False, delay_ms=1.5)


@pytest.mark.parametrize(
    "asked", [{"do": "fly"}, {"nonsense": "1"}, {"status": "99"}, {"keep": "maybe"}, {"first": "-1"}]
)
def test_a_behaviour_that_is_none_is_refused(asked: dict[str, str]) -> None:
    with pytest.raises(BehaviourError):
        parse_behaviour(asked)
