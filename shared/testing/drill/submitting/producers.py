"""Submitting without consuma's help, with the clients that people have: kcat and confluent-kafka."""

import asyncio
import shutil
from collections.abc import Sequence
from functools import partial
from typing import Any, Final

import orjson

from shared.domain.identity import id_of_reference
from shared.domain.types import Mode
from shared.kafka.topics import Topic, topic_name
from shared.settings import KafkaSettings
from shared.testing.drill.judging.ledger import Address, Ledger
from shared.testing.drill.submitting.workload import Job

__all__ = ["ConfluentProducer", "accept", "binary_headers", "binary_value", "find_kcat", "submit_with_kcat"]

FLUSH_TIMEOUT_S: Final = 60.0
PATIENCE_MS: Final = 50_000


def find_kcat() -> str | None:
    """Path of kcat, where it is installed."""
    return shutil.which("kcat") or shutil.which("kafkacat")


async def submit_with_kcat(
    settings: KafkaSettings, source: str, jobs: Sequence[Job], ledger: Ledger, *, address: Address
) -> None:
    """Bare JSON, one line a record, under kcat's own partitioner and without keys.

    Raises:
        FileNotFoundError: kcat is not installed.
        RuntimeError, TimeoutError: not every record was acknowledged.
    """
    kcat = find_kcat()
    if kcat is None:
        raise FileNotFoundError("kcat is not installed; on Debian: apt-get install kcat")
    _attempt(jobs, ledger)
    topic = topic_name(settings, Topic.REQUESTS)
    process = await asyncio.create_subprocess_exec(
        *(kcat, "-P", "-b", settings.kafka, "-t", topic, "-X", "acks=all"),
        stdin=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    lines = [orjson.dumps(_bare(source, job, address(job))) for job in jobs]
    try:
        async with asyncio.timeout(FLUSH_TIMEOUT_S):
            _, said = await process.communicate(b"\n".join(lines) + b"\n")
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode != 0:
        raise RuntimeError(f"kcat ended with exit code {process.returncode}: {said[-500:].decode()}")
    accept(source, jobs, ledger)


class ConfluentProducer:
    """CloudEvents in binary mode, keyed by reference, with librdkafka's default partitioner.

    A record that is not acknowledged for `patience_ms` is given up.
    """

    def __init__(
        self, settings: KafkaSettings, source: str, address: Address, *, patience_ms: int = PATIENCE_MS
    ) -> None:
        from confluent_kafka import Producer  # a development dependency

        self._producer = Producer(
            {
                "bootstrap.servers": settings.kafka,
                "acks": "all",
                "log_level": 0,
                "message.timeout.ms": patience_ms,
            }
        )
        self._topic = topic_name(settings, Topic.REQUESTS)
        self._source = source
        self._address = address

    async def submit(self, jobs: Sequence[Job], ledger: Ledger) -> Sequence[Job]:
        """Append the jobs; returned are those that were not acknowledged, which may be there all the same."""
        _attempt(jobs, ledger)
        acknowledged = await asyncio.to_thread(self._produce, jobs)
        accept(self._source, [job for job in jobs if job.reference in acknowledged], ledger)
        return [job for job in jobs if job.reference not in acknowledged]

    def _produce(self, jobs: Sequence[Job]) -> set[str]:
        acknowledged: set[str] = set()
        for job in jobs:
            self._producer.produce(
                self._topic,
                key=job.reference,
                value=binary_value(job, self._address),
                headers=binary_headers(self._source, job),
                on_delivery=partial(_note, acknowledged, job.reference),
            )
            self._producer.poll(0)
        self._producer.flush(FLUSH_TIMEOUT_S)
        return acknowledged


def _note(acknowledged: set[str], reference: str, error: object, _: object) -> None:
    if error is None:
        acknowledged.add(reference)


def binary_value(job: Job, address: Address) -> bytes:
    """The value of a record in binary mode."""
    return orjson.dumps({**job.body(), "callback_url": address(job)})


def binary_headers(source: str, job: Job) -> list[tuple[str, str | bytes | None]]:
    """The headers that make it a CloudEvent."""
    return [
        ("ce_specversion", b"1.0"),
        ("ce_id", job.reference.encode()),
        ("ce_source", source.encode()),
        ("ce_type", b"consuma.request.submitted.v1"),
        ("content-type", b"application/json"),
    ]


def accept(source: str, jobs: Sequence[Job], ledger: Ledger) -> None:
    """Note that the log has acknowledged these jobs."""
    for job in jobs:
        ledger.accept(id_of_reference(source, job.reference), job, callback=job.mode is Mode.ASYNC)


def _attempt(jobs: Sequence[Job], ledger: Ledger) -> None:
    for job in jobs:
        ledger.attempt(job)


def _bare(source: str, job: Job, callback_url: str) -> dict[str, Any]:
    return {**job.body(), "callback_url": callback_url, "source": source, "id": job.reference}
