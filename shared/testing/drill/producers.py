"""Submitting without consuma's help, with the clients that people have: kcat and confluent-kafka."""

import asyncio
import shutil
from collections.abc import Sequence
from typing import Any, Final

import orjson

from shared.domain.identity import id_of_reference
from shared.domain.types import Mode
from shared.kafka.topics import Topic, topic_name
from shared.settings import KafkaSettings
from shared.testing.drill.ledger import Ledger
from shared.testing.drill.workload import Job

__all__ = ["submit_with_confluent", "submit_with_kcat"]

FLUSH_TIMEOUT_S: Final = 60.0


async def submit_with_kcat(
    settings: KafkaSettings, source: str, jobs: Sequence[Job], ledger: Ledger, *, callback_url: str
) -> None:
    """Bare JSON, one line a record, under kcat's own partitioner and without keys.

    Raises:
        FileNotFoundError: kcat is not installed.
    """
    kcat = shutil.which("kcat") or shutil.which("kafkacat")
    if kcat is None:
        raise FileNotFoundError("kcat is not installed; on Debian: apt-get install kcat")
    topic = topic_name(settings, Topic.REQUESTS)
    process = await asyncio.create_subprocess_exec(
        kcat, "-P", "-b", settings.kafka, "-t", topic, "-X", "acks=all", stdin=asyncio.subprocess.PIPE
    )
    lines = [orjson.dumps(_bare(source, job, callback_url)) for job in jobs]
    async with asyncio.timeout(FLUSH_TIMEOUT_S):
        await process.communicate(b"\n".join(lines) + b"\n")
    if process.returncode != 0:
        raise RuntimeError(f"kcat ended with exit code {process.returncode}")
    _accept(source, jobs, ledger)


async def submit_with_confluent(
    settings: KafkaSettings, source: str, jobs: Sequence[Job], ledger: Ledger, *, callback_url: str
) -> None:
    """CloudEvents in binary mode, keyed by reference, with librdkafka's default partitioner."""
    await asyncio.to_thread(_produce, settings, source, jobs, callback_url)
    _accept(source, jobs, ledger)


def _produce(settings: KafkaSettings, source: str, jobs: Sequence[Job], callback_url: str) -> None:
    from confluent_kafka import Producer  # a development dependency

    failures: list[str] = []
    producer = Producer({"bootstrap.servers": settings.kafka, "acks": "all"})
    topic = topic_name(settings, Topic.REQUESTS)
    for job in jobs:
        value = orjson.dumps({"operation": job.operation, "input": job.input, "callback_url": callback_url})
        producer.produce(
            topic,
            key=job.reference,
            value=value,
            headers=_headers(source, job),
            on_delivery=lambda error, _: failures.append(str(error)) if error else None,
        )
        producer.poll(0)
    unsent = producer.flush(FLUSH_TIMEOUT_S)
    if unsent or failures:
        raise RuntimeError(f"{unsent} records were not acknowledged, {len(failures)} failed: {failures[:3]}")


def _headers(source: str, job: Job) -> list[tuple[str, str | bytes | None]]:
    return [
        ("ce_specversion", b"1.0"),
        ("ce_id", job.reference.encode()),
        ("ce_source", source.encode()),
        ("ce_type", b"consuma.request.submitted.v1"),
        ("content-type", b"application/json"),
    ]


def _bare(source: str, job: Job, callback_url: str) -> dict[str, Any]:
    return {
        "operation": job.operation,
        "input": job.input,
        "callback_url": callback_url,
        "source": source,
        "id": job.reference,
    }


def _accept(source: str, jobs: Sequence[Job], ledger: Ledger) -> None:
    for job in jobs:
        ledger.accept(id_of_reference(source, job.reference), job, callback=job.mode is Mode.ASYNC)
