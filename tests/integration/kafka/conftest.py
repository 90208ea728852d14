"""A broker's address and topics of one's own."""

import secrets
from collections.abc import AsyncIterator

import pytest

from shared.kafka import topics_admin
from shared.settings import ServiceSettings
from tests.integration.kafka.support import delete_topics


@pytest.fixture
async def settings(kafka_address: str) -> AsyncIterator[ServiceSettings]:
    """Settings under a fresh prefix, with every topic created."""
    found = ServiceSettings(
        kafka=kafka_address,
        topic_prefix=f"t-{secrets.token_hex(4)}.",
        instance="test-0",
        partitions=8,
        session_timeout_ms=6_000,
        drain_timeout_ms=5_000,
    )
    await topics_admin.apply(found)
    yield found
    await delete_topics(found)
