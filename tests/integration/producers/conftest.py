"""Topics and a compute service for each module, and somebody who reads all outcomes."""

import asyncio
import os
import secrets
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator

import pytest

from shared.kafka import topics_admin
from shared.settings import ServiceSettings
from tests.integration.kafka.support import delete_topics
from tests.integration.producers.support import Outcomes


@pytest.fixture(scope="module")
def settings(kafka_address: str) -> Iterator[ServiceSettings]:
    found = ServiceSettings(
        kafka=kafka_address, topic_prefix=f"t-{secrets.token_hex(4)}.", instance="compute-0", partitions=2
    )
    asyncio.run(topics_admin.apply(found))
    yield found
    asyncio.run(delete_topics(found))


@pytest.fixture(scope="module")
def environment(settings: ServiceSettings) -> dict[str, str]:
    """What our processes and the examples read."""
    return {
        **os.environ,
        "CONSUMA_KAFKA": settings.kafka,
        "CONSUMA_TOPIC_PREFIX": settings.topic_prefix,
        "CONSUMA_PARTITIONS": str(settings.partitions),
        "CONSUMA_INSTANCE": settings.instance,
        "CONSUMA_SESSION_TIMEOUT_MS": "6000",
    }


@pytest.fixture(scope="module", autouse=True)
def compute(environment: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """The real service as its own process."""
    process = subprocess.Popen(
        [sys.executable, "-m", "services.compute"], env=environment, stdout=subprocess.DEVNULL
    )
    yield process
    process.terminate()
    process.wait()


@pytest.fixture
async def outcomes(settings: ServiceSettings) -> AsyncIterator[Outcomes]:
    async with Outcomes(settings) as found:
        yield found
