"""Starting clients that somebody cancels."""

import asyncio

import pytest

from shared.kafka import ending
from shared.kafka.ending import start_whole


async def test_a_cancelled_start_comes_to_its_end_first() -> None:
    """A socket was left to the garbage collector when a start was cut off while it connected."""
    connecting, connected = asyncio.Event(), asyncio.Event()
    ended = False

    async def start() -> None:
        nonlocal ended
        connecting.set()
        await connected.wait()
        ended = True

    starting = asyncio.create_task(start_whole(start()))
    await connecting.wait()
    starting.cancel()
    asyncio.get_running_loop().call_later(0.01, connected.set)
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert ended


async def test_a_cancelled_start_that_hangs_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ending, "CONNECT_PATIENCE_S", 0.01)
    begun = asyncio.Event()

    async def start() -> None:
        begun.set()
        await asyncio.Event().wait()

    starting = asyncio.create_task(start_whole(start()))
    await begun.wait()
    starting.cancel()
    async with asyncio.timeout(5):
        with pytest.raises(asyncio.CancelledError):
            await starting


async def test_what_a_start_raises_is_raised() -> None:
    async def start() -> None:
        raise OSError("no broker")

    with pytest.raises(OSError, match="no broker"):
        await start_whole(start())
