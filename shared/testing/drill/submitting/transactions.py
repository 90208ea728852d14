"""A transactional producer that commits some of its transactions and aborts others."""

import asyncio
import random
import time
from collections.abc import Sequence
from typing import Any, Final

from shared.kafka.topics import Topic, topic_name
from shared.settings import KafkaSettings
from shared.testing.drill.judging.ledger import Address, Ledger
from shared.testing.drill.submitting.producers import accept, binary_headers, binary_value
from shared.testing.drill.submitting.workload import Job

__all__ = ["TransactionalProducer"]

TIMEOUT_S: Final = 10.0
TRANSACTION_TIMEOUT_MS: Final = 10_000
"""The broker itself aborts what is open for longer, and lets readers on."""

LONGEST_OPEN_S: Final = 1.5
"""Before the end of a transaction, so that records of others come to lie among its own."""


class TransactionalProducer:
    """One transaction after the other. A client that failed is replaced, which ends what it left open."""

    def __init__(self, settings: KafkaSettings, source: str, address: Address, seed: int) -> None:
        self._settings = settings
        self._topic = topic_name(settings, Topic.REQUESTS)
        self._source = source
        self._address = address
        self._draw = random.Random(f"transactions-{seed}")  # noqa: S311 - repeatable, not secret
        self._client: Any = None

    async def commit(self, jobs: Sequence[Job], ledger: Ledger) -> bool:
        """Append the jobs in one transaction; False where it is unknown whether they are there."""
        for job in jobs:
            ledger.attempt(job)
        done = await asyncio.to_thread(self._run, jobs, committed=True)
        if done:
            accept(self._source, jobs, ledger)
        return done

    async def abort(self, jobs: Sequence[Job], ledger: Ledger) -> bool:
        """Append the jobs in a transaction that is never committed; False where the broker was not there."""
        ledger.aborted.update(job.reference for job in jobs)
        return await asyncio.to_thread(self._run, jobs, committed=False)

    def _run(self, jobs: Sequence[Job], *, committed: bool) -> bool:
        from confluent_kafka import KafkaException  # a development dependency

        try:
            client = self._client = self._client or self._new()
            client.begin_transaction()
            self._produce(client, jobs)
            client.flush(TIMEOUT_S)
            time.sleep(self._draw.uniform(0.0, LONGEST_OPEN_S))
            (client.commit_transaction if committed else client.abort_transaction)(TIMEOUT_S)
        except (KafkaException, BufferError):
            self._client = None
            return False
        return True

    def _new(self) -> Any:  # noqa: ANN401 - the client library is untyped
        from confluent_kafka import Producer  # a development dependency

        client = Producer(
            {
                "bootstrap.servers": self._settings.kafka,
                "transactional.id": f"{self._settings.topic_prefix}{self._source}",
                "transaction.timeout.ms": TRANSACTION_TIMEOUT_MS,
                "log_level": 0,
            }
        )
        client.init_transactions(TIMEOUT_S)
        return client

    def _produce(self, client: Any, jobs: Sequence[Job]) -> None:  # noqa: ANN401 - the client library is untyped
        """Half of the transactions lie in one partition, the others in all."""
        number = self._draw.randrange(self._settings.partitions)
        one = {"partition": number} if self._draw.random() < 0.5 else {}
        for job in jobs:
            client.produce(
                self._topic,
                key=job.reference,
                value=binary_value(job, self._address),
                headers=binary_headers(self._source, job),
                **one,
            )
            client.poll(0)
