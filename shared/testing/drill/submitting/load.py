"""A steady load by every way in, for as long as it is wanted."""

import asyncio
import itertools
import math
import random
from collections.abc import Iterator, Sequence
from typing import Final

from shared.domain.types import Mode
from shared.settings import KafkaSettings
from shared.testing.drill.judging.ledger import Address, Ledger
from shared.testing.drill.submitting.mixture import mixture
from shared.testing.drill.submitting.producers import ConfluentProducer, find_kcat, submit_with_kcat
from shared.testing.drill.submitting.rest import RefusedError, RestClient
from shared.testing.drill.submitting.transactions import TransactionalProducer
from shared.testing.drill.submitting.workload import Job

__all__ = ["Load"]

SHARES: Final = {"sync": 0.34, "async": 0.30, "confluent": 0.24, "kcat": 0.08, "committed": 0.04}
"""Of the requests of a second, by the way in."""

MOST_IN_FLIGHT: Final = 400
"""Submissions over REST at a time; the pace slackens there."""

CONFLUENT_EVERY_S: Final = 1.0
KCAT_EVERY_S: Final = 6.0
TRANSACTION_EVERY_S: Final = 5.0
REPEATED: Final = 0.1
"""Share of the REST submissions that are made once more under their key."""

REPEATED_WITHIN_S: Final = 20.0
MOST_ABORTED: Final = 1_000
TRIES: Final = 40
RETRY_S: Final = 2.0


class Load:
    """Submits `rate` requests a second until `stop` is called, and then until the last is acknowledged.

    Args:
        settings: where the broker is.
        rest: the API.
        ledger: learns of every submission.
        address: where callbacks go.
        name: tells these requests from those of others.
        seed: of the work; the ways in have their own turns.
        rate: requests a second, all ways in together.
    """

    def __init__(
        self,
        settings: KafkaSettings,
        rest: RestClient,
        ledger: Ledger,
        address: Address,
        *,
        name: str,
        seed: int,
        rate: float,
    ) -> None:
        self._settings = settings
        self._rest = rest
        self._ledger = ledger
        self._address = address
        self._name = name
        self._seed = seed
        self._rate = rate
        self._draw = random.Random(f"load-{seed}")  # noqa: S311 - repeatable, not secret
        self._stopped = asyncio.Event()
        self._in_flight = asyncio.Semaphore(MOST_IN_FLIGHT)

    def stop(self) -> None:
        """Begin no more submissions."""
        self._stopped.set()

    async def run(self) -> None:
        """Submit. Whatever goes wrong with single submissions is noted in the ledger."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._over_rest(tasks, Mode.SYNC))
            tasks.create_task(self._over_rest(tasks, Mode.ASYNC))
            tasks.create_task(self._with_confluent())
            tasks.create_task(self._with_transactions())
            if find_kcat() is not None:
                tasks.create_task(self._with_kcat())

    async def _over_rest(self, tasks: asyncio.TaskGroup, mode: Mode) -> None:
        every_s = 1 / (self._rate * SHARES[mode])
        for job in self._jobs(mode, mode):
            if not await self._going_on(every_s):
                return
            await self._in_flight.acquire()
            tasks.create_task(self._submit(job))

    async def _submit(self, job: Job) -> None:
        try:
            await self._once(job)
            if self._draw.random() < REPEATED:
                await self._going_on(self._draw.uniform(0.0, REPEATED_WITHIN_S))
                await self._once(job)
        finally:
            self._in_flight.release()

    async def _once(self, job: Job) -> None:
        try:
            await self._rest.submit(job, self._ledger, self._address)
        except TimeoutError:
            self._ledger.refused.append(f"{job.reference} was not acknowledged for too long")
        except RefusedError as error:
            self._ledger.refused.append(f"{job.reference}: {error}")

    async def _with_confluent(self) -> None:
        source = f"{self._name}-confluent"
        producer = ConfluentProducer(self._settings, source, self._address)
        for batch in self._batches("confluent", CONFLUENT_EVERY_S):
            if not await self._going_on(CONFLUENT_EVERY_S):
                return
            left: Sequence[Job] = batch
            for _ in range(TRIES):
                left = await producer.submit(left, self._ledger)
                if not left:
                    break

    async def _with_kcat(self) -> None:
        for batch in self._batches("kcat", KCAT_EVERY_S):
            if not await self._going_on(KCAT_EVERY_S):
                return
            await self._kcat(batch)

    async def _kcat(self, batch: Sequence[Job]) -> None:
        source = f"{self._name}-kcat"
        for _ in range(TRIES):
            try:
                await submit_with_kcat(self._settings, source, batch, self._ledger, address=self._address)
            except (RuntimeError, TimeoutError):
                await asyncio.sleep(RETRY_S)
            else:
                return

    async def _with_transactions(self) -> None:
        """Commits and aborts in turn; what it aborts has any size, small ones as often as large ones."""
        source = f"{self._name}-transactions"
        producer = TransactionalProducer(self._settings, source, self._address, self._seed)
        doomed = self._jobs("aborted", Mode.ASYNC)
        for batch in self._batches("committed", 2 * TRANSACTION_EVERY_S):
            if not await self._going_on(TRANSACTION_EVERY_S):
                return
            count = round(math.exp(self._draw.uniform(0.0, math.log(MOST_ABORTED))))
            await producer.abort(list(itertools.islice(doomed, count)), self._ledger)
            await self._going_on(TRANSACTION_EVERY_S)
            for _ in range(TRIES):
                if await producer.commit(batch, self._ledger):
                    break

    def _jobs(self, way: str, mode: Mode) -> Iterator[Job]:
        return mixture(f"{self._name}-{way}", mode, self._seed)

    def _batches(self, way: str, every_s: float) -> Iterator[list[Job]]:
        jobs = self._jobs(way, Mode.ASYNC)
        size = max(1, round(self._rate * SHARES[way] * every_s))
        while True:
            yield list(itertools.islice(jobs, size))

    async def _going_on(self, wait_s: float) -> bool:
        """Wait for the next turn; False when there is none."""
        try:
            async with asyncio.timeout(wait_s):
                await self._stopped.wait()
        except TimeoutError:
            return True
        return False
