"""A name server that hangs stops its own names alone."""

import asyncio
import threading
from collections.abc import Iterator

import pytest

from services.callback.resolver import DOMAIN_THREADS, LOOKUP_THREADS, SystemLookup


class Names:
    """Names below `slow.example` hang until they are released."""

    def __init__(self) -> None:
        self.released = threading.Event()

    def look_up(self, host: str) -> list[str]:
        if host.endswith("slow.example"):
            self.released.wait(30)
        return ["192.0.2.1"]


@pytest.fixture
def names() -> Iterator[Names]:
    found = Names()
    yield found
    found.released.set()


async def test_names_below_a_hanging_domain_do_not_stop_others(names: Names) -> None:
    """Each of them used to hold a thread that everybody needed."""
    lookup = SystemLookup(names.look_up)
    hanging = [asyncio.create_task(lookup(f"{number}.slow.example")) for number in range(2 * LOOKUP_THREADS)]
    await asyncio.sleep(0)
    async with asyncio.timeout(5):
        assert await lookup("healthy.test") == ["192.0.2.1"]
    assert not any(task.done() for task in hanging)
    names.released.set()
    async with asyncio.timeout(5):
        await asyncio.gather(*hanging)
    lookup.close()


async def test_a_thread_that_its_caller_has_left_counts_until_it_is_free(names: Names) -> None:
    lookup = SystemLookup(names.look_up)
    left = [asyncio.create_task(lookup(f"{number}.slow.example")) for number in range(DOMAIN_THREADS)]
    await asyncio.sleep(0)
    for task in left:
        task.cancel()
    await asyncio.wait(left)
    waiting = asyncio.create_task(lookup("last.slow.example"))
    done, _ = await asyncio.wait([waiting], timeout=0.05)
    assert not done
    names.released.set()
    async with asyncio.timeout(5):
        assert await waiting == ["192.0.2.1"]
    lookup.close()


async def test_callers_that_give_up_while_they_wait_leave_nothing_behind(names: Names) -> None:
    lookup = SystemLookup(names.look_up)
    tasks = [asyncio.create_task(lookup(f"{number}.slow.example")) for number in range(3 * DOMAIN_THREADS)]
    await asyncio.sleep(0)
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    names.released.set()
    async with asyncio.timeout(5):
        assert await lookup("again.slow.example") == ["192.0.2.1"]
    lookup.close()
