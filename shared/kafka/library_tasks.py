"""The tasks that the client library runs by itself, and whether one has ended.

A stray cancellation or an error ends such a task in silence: a consumer whose fetch task is gone returns no
record for ever, and a producer whose sender is gone holds what it is given. Only a new client helps.
"""

import asyncio
from collections.abc import Iterator
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError

from shared.kafka.ending import own_cancellations_only

__all__ = ["DeadTaskError", "dead_task_of", "fetch"]

Task = asyncio.Task[object] | None
Batches = dict[TopicPartition, list[Any]]


class DeadTaskError(KafkaError):  # type: ignore[misc]  # the client library is untyped
    """A task of the client has ended in silence: the client is to be replaced."""

    def __init__(self, task: str) -> None:
        super().__init__(f"the client's {task} task has ended")
        self.reason = f"dead_{task}_task"


async def fetch(
    client: AIOKafkaConsumer, *sources: TopicPartition, timeout_ms: int, max_records: int | None = None
) -> Batches:
    """What has come for `sources`, or for all that is assigned, in at most `timeout_ms`.

    Raises:
        DeadTaskError: nothing will come any more; what had come before is dropped.
        KafkaError: nothing can be read now.
    """
    with own_cancellations_only():
        batches: Batches = await client.getmany(*sources, timeout_ms=timeout_ms, max_records=max_records)
    if (task := dead_task_of(client)) is not None:
        raise DeadTaskError(task)
    return batches


def dead_task_of(client: AIOKafkaConsumer | AIOKafkaProducer) -> str | None:
    """Name of a task that has ended although `client` needs it; None while all live, or the client is closed.

    Costs microseconds and awaits nothing. During a rebalance the group's tasks are not judged.
    """
    if client._closed:
        return None
    needed = _of_producer(client) if isinstance(client, AIOKafkaProducer) else _of_consumer(client)
    return next((name for name, task in needed if task is not None and task.done()), None)


def _of_producer(client: AIOKafkaProducer) -> Iterator[tuple[str, Task]]:
    yield "metadata", client.client._sync_task
    yield "sender", client._sender._sender_task


def _of_consumer(client: AIOKafkaConsumer) -> Iterator[tuple[str, Task]]:
    yield "metadata", client._client._sync_task
    if client._fetcher is not None:
        yield "fetch", client._fetcher._fetch_task
    coordinator = client._coordinator
    if client._group_id is not None and coordinator is not None:
        yield from _of_member(client, coordinator)


def _of_member(client: AIOKafkaConsumer, coordinator: Any) -> Iterator[tuple[str, Task]]:  # noqa: ANN401 - untyped
    """Those of a group; before a rebalance the library ends heartbeats, and later the refresh of commits."""
    yield "coordination", coordinator._coordination_task
    state = client._subscription
    if coordinator._rejoin_needed_fut.done() or state.reassignment_in_progress:
        return
    yield "heartbeat", coordinator._heartbeat_task
    assignment = state.subscription and state.subscription.assignment
    if assignment and assignment.active and assignment.commit_refresh_needed.is_set():
        yield "commit refresh", coordinator._commit_refresh_task
