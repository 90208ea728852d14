"""A cancellation that meets the end of what was waited for is not lost.

`asyncio.wait_for` of Python 3.11 returns the result then, as if nobody had cancelled: a consumer that was
told to stop in the instant in which a commit was acknowledged went on committing, and never ended.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from shared.kafka.committer import Committer
from shared.kafka.group_client import GroupClient
from shared.settings import ServiceSettings

TICKS = range(8)


async def ticks(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


class Client:
    """In place of the client library's: a commit ends when it is told to."""

    def __init__(self, **_: object) -> None:
        self.acknowledged: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def commit(self, _: object) -> None:
        await self.acknowledged


async def committing(monkeypatch: pytest.MonkeyPatch) -> tuple[Awaitable[None], Callable[[], None]]:
    """A commit under way, and what acknowledges it."""

    async def revoked() -> None: ...

    monkeypatch.setattr("shared.kafka.group_client.AIOKafkaConsumer", Client)
    client = GroupClient(
        ServiceSettings(),
        group="g",
        topics=["t"],
        assigned=lambda _: None,
        revoked=revoked,
        damaged=Counter(),
    )
    return client.commit({}), lambda: client._client.acknowledged.set_result(None)


async def waiting(_: pytest.MonkeyPatch) -> tuple[Awaitable[None], Callable[[], None]]:
    """The loop of commits, and what wakes it."""

    async def commit(_: object) -> None: ...

    committer = Committer(commit, lambda: [], session_s=30)
    return committer.run(), committer.request


@pytest.mark.parametrize("after", TICKS)
@pytest.mark.parametrize("begin", [committing, waiting])
async def test_a_cancellation_ends_the_task_whenever_it_comes(
    monkeypatch: pytest.MonkeyPatch, begin: Callable[[pytest.MonkeyPatch], Any], after: int
) -> None:
    work, end = await begin(monkeypatch)
    task = asyncio.ensure_future(work)
    await ticks(3)
    end()
    await ticks(after)
    asked = task.cancel()
    done, _ = await asyncio.wait({task}, timeout=5)
    assert done
    assert task.cancelled() is asked
