"""Topics of one's own, and schedules short enough to wait for."""

import secrets
from collections.abc import AsyncIterator

import pytest
from pydantic import SecretStr

from services.callback.settings import CallbackSettings
from shared.kafka import topics_admin
from tests.integration.callback.support import SECRET
from tests.integration.kafka.support import delete_topics


@pytest.fixture
async def settings(kafka_address: str) -> AsyncIterator[CallbackSettings]:
    found = CallbackSettings(
        kafka=kafka_address,
        topic_prefix=f"t-{secrets.token_hex(4)}.",
        instance="callback-0",
        partitions=2,
        session_timeout_ms=6_000,
        drain_timeout_ms=10_000,
        retry_schedule="1s,1s",
        webhook_secrets=SecretStr(SECRET),
        callback_allow="127.0.0.0/8",
        callback_timeout_ms=5_000,
    )
    await topics_admin.apply(found)
    yield found
    await delete_topics(found)
