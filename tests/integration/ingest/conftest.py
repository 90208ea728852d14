"""Topics, an empty read side and a projector for each module; an API and a stand-in for compute per test."""

import asyncio
import secrets
import subprocess
import sys
from base64 import b64encode
from collections.abc import AsyncIterator, Iterator

import httpx
import pytest
from pydantic import SecretStr

from services.ingest.settings import IngestSettings
from shared.kafka import topics_admin
from tests.integration.db.support import Inspector
from tests.integration.ingest.compute_twin import ComputeTwin
from tests.integration.ingest.support import PATIENCE_S, environment, running
from tests.integration.kafka.support import delete_topics
from tests.support.waiting import until_now

SUBMIT_KEY = "subkey_" + b64encode(b"k" * 32).decode()
"""Whoever reads the log here believes only what is signed with it."""


@pytest.fixture(scope="module")
def settings(kafka_address: str, mysql_url: str) -> Iterator[IngestSettings]:
    """Settings with topics of their own and empty tables."""
    inspector = Inspector(mysql_url)
    inspector.clear()
    inspector.close()
    found = IngestSettings(
        kafka=kafka_address,
        mysql=SecretStr(mysql_url),
        topic_prefix=f"t-{secrets.token_hex(4)}.",
        instance="ingest-0",
        submit_keys=SecretStr(SUBMIT_KEY),
        partitions=2,
        listen_port=0,
        stop_wait_ms=200,
        accept_timeout_ms=10_000,  # tests of outages set what is promised
        drain_timeout_ms=5_000,
    )
    asyncio.run(topics_admin.apply(found))
    yield found
    asyncio.run(delete_topics(found))


@pytest.fixture(scope="module")
def projector(settings: IngestSettings) -> Iterator[subprocess.Popen[bytes]]:
    """A projector as its own process, which has begun."""
    process = subprocess.Popen(
        [sys.executable, "-m", "services.projector"],
        env=environment(settings, CONSUMA_INSTANCE="projector-0"),
        stdout=subprocess.DEVNULL,
    )
    inspector = Inspector(settings.mysql.get_secret_value())
    try:
        until_now(lambda: bool(inspector.rows("projection_offsets")), timeout_s=PATIENCE_S)
        yield process
    finally:
        inspector.close()
        process.kill()
        process.wait()


@pytest.fixture
async def api(settings: IngestSettings) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a running API."""
    async with running(settings) as client:
        yield client


@pytest.fixture
async def compute(settings: IngestSettings) -> AsyncIterator[ComputeTwin]:
    """Somebody who answers requests."""
    async with ComputeTwin(settings) as twin:
        yield twin
