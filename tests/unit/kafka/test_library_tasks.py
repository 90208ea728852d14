"""A task of the client library that has ended is told from those that the library ends by itself."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from shared.kafka.library_tasks import dead_task_of

Tasks = dict[str, asyncio.Task[None]]


async def live() -> None:
    await asyncio.Event().wait()


async def failing() -> None:
    raise RuntimeError("a bug of the library")


@pytest.fixture
async def tasks() -> AsyncIterator[Tasks]:
    names = ("metadata", "fetch", "coordination", "heartbeat", "commit refresh", "sender")
    made = {name: asyncio.create_task(live()) for name in names}
    yield made
    for each in made.values():
        each.cancel()
    await asyncio.gather(*made.values(), return_exceptions=True)


@pytest.fixture(autouse=True)
def unclosed(monkeypatch: pytest.MonkeyPatch) -> None:
    """These clients have no connection to close, and the library complains of one that is not closed."""
    for kind in (AIOKafkaConsumer, AIOKafkaProducer):
        monkeypatch.delattr(kind, "__del__")


def consumer(tasks: Tasks, *, group: str | None = None) -> AIOKafkaConsumer:
    """One that looks as if it had been started, and had what a member needs if it is one."""
    client = AIOKafkaConsumer(group_id=group)
    client._client._sync_task = tasks["metadata"]
    client._fetcher = SimpleNamespace(_fetch_task=tasks["fetch"])
    refresh_needed = asyncio.Event()
    refresh_needed.set()
    assignment = SimpleNamespace(active=True, commit_refresh_needed=refresh_needed)
    client._subscription = SimpleNamespace(
        reassignment_in_progress=False, subscription=SimpleNamespace(assignment=assignment)
    )
    client._coordinator = SimpleNamespace(
        _rejoin_needed_fut=asyncio.get_running_loop().create_future(),
        _coordination_task=tasks["coordination"],
        _heartbeat_task=tasks["heartbeat"],
        _commit_refresh_task=tasks["commit refresh"],
    )
    return client


async def end(tasks: Tasks, name: str, *, with_: Coroutine[Any, Any, None] | None = None) -> None:
    """End a task by a cancellation, or have `with_` in its place and see it end."""
    tasks[name].cancel()
    if with_ is not None:
        tasks[name] = asyncio.create_task(with_)
    await asyncio.wait([tasks[name]])


@pytest.mark.parametrize("name", ["metadata", "fetch"])
async def test_a_reader_needs_its_tasks(tasks: Tasks, name: str) -> None:
    client = consumer(tasks)
    assert dead_task_of(client) is None
    await end(tasks, name)
    assert dead_task_of(client) == name


@pytest.mark.parametrize("name", ["metadata", "fetch", "coordination", "heartbeat", "commit refresh"])
async def test_a_member_needs_those_of_the_group_too(tasks: Tasks, name: str) -> None:
    client = consumer(tasks, group="g")
    assert dead_task_of(client) is None
    await end(tasks, name)
    assert dead_task_of(client) == name


async def test_one_that_failed_is_dead(tasks: Tasks) -> None:
    await end(tasks, "fetch", with_=failing())
    assert dead_task_of(consumer(tasks)) == "fetch"


@pytest.mark.parametrize("name", ["heartbeat", "commit refresh"])
async def test_what_a_rebalance_ends_is_not_dead(tasks: Tasks, name: str) -> None:
    client = consumer(tasks, group="g")
    await end(tasks, name)
    client._subscription.reassignment_in_progress = True
    assert dead_task_of(client) is None
    client._subscription.reassignment_in_progress = False
    client._coordinator._rejoin_needed_fut.set_result(None)
    assert dead_task_of(client) is None


@pytest.mark.parametrize("name", ["metadata", "sender"])
async def test_a_producer_needs_its_tasks(tasks: Tasks, name: str) -> None:
    client = AIOKafkaProducer()
    client.client._sync_task = tasks["metadata"]
    client._sender._sender_task = tasks["sender"]
    assert dead_task_of(client) is None
    await end(tasks, name)
    assert dead_task_of(client) == name
    client._closed = True
    assert dead_task_of(client) is None


async def test_what_was_not_started_has_no_dead_task() -> None:
    assert dead_task_of(AIOKafkaConsumer()) is None
    assert dead_task_of(AIOKafkaConsumer(group_id="g")) is None
