"""Taking partitions over and leaving them, in the background: the group must not wait for either."""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterable

import structlog

from shared.kafka import metrics
from shared.kafka.backoff import backoff_s
from shared.kafka.ending import own_cancellations_only
from shared.kafka.group_client import GroupClient
from shared.kafka.handler import MemberSpec, PartitionHandler
from shared.kafka.partition_run import CommitPoint, PartitionRun, end_work
from shared.kafka.recall import Recalled, recall
from shared.kafka.records import Partition

__all__ = ["Ownership"]

log = structlog.get_logger()


class Ownership:
    """Tells the handler what has come and what has gone; what comes waits until what goes has ended.

    Args:
        opened: called for each partition that is ready, with what its last commit says, None where none is.
        own_commits: what this process has committed last, kept between its lives: a commit found there tells
            of no death.
    """

    def __init__(
        self,
        client: GroupClient,
        handler: PartitionHandler,
        spec: MemberSpec,
        *,
        opened: Callable[[PartitionRun, Recalled | None], None],
        own_commits: dict[Partition, CommitPoint],
    ) -> None:
        self._client = client
        self._handler = handler
        self._spec = spec
        self._opened = opened
        self._own_commits = own_commits
        self._leaving: asyncio.Task[None] | None = None

    def take(self, runs: Iterable[PartitionRun], tasks: asyncio.TaskGroup) -> None:
        """Open `runs`, those of one partition number together."""
        by_number: dict[int, dict[Partition, PartitionRun]] = defaultdict(dict)
        for run in runs:
            by_number[run.partition.number][run.partition] = run
        for group in by_number.values():
            task = tasks.create_task(self._open(group, self._leaving))
            for run in group.values():
                run.opening = task

    def leave(self, runs: list[PartitionRun], tasks: asyncio.TaskGroup) -> None:
        """Cancel all work on `runs` now; tell the handler when it has ended."""
        if runs:
            for run in runs:
                run.cancel()
            self._leaving = tasks.create_task(self._leave(runs, self._leaving))

    async def leave_for_good(self, runs: list[PartitionRun]) -> None:
        """Tell the handler that this member has ended; all work has."""
        if runs:
            await self._leave(runs, None)

    async def _leave(self, runs: list[PartitionRun], former: asyncio.Task[None] | None) -> None:
        if former is not None:
            await former
        await end_work(runs)
        for run in runs:
            metrics.forget_partition(run.partition)
            if run.committed is not None:
                self._own_commits[run.partition] = run.committed
        await self._handler.on_revoked(frozenset(run.partition for run in runs))

    async def _open(self, runs: dict[Partition, PartitionRun], leaving: asyncio.Task[None] | None) -> None:
        """Learn how the former owner left and let the handler prepare, until both have worked."""
        if leaving is not None:
            await asyncio.wait([leaving])
        recalled: dict[Partition, Recalled] = {}
        for wait_s in backoff_s():
            try:
                with own_cancellations_only():
                    recalled = await recall(self._client, runs, self._spec.probation, self._own_commits)
                    await self._handler.on_assigned(frozenset(runs))
                break
            except Exception as error:
                log.warning("consumer.open_retried", partitions=sorted(map(str, runs)), exc_info=error)
                await asyncio.sleep(wait_s)
        for partition, run in runs.items():
            run.opening = None
            self._opened(run, recalled.get(partition))
