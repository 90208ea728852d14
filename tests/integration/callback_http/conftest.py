"""Topics of one's own for the tests that follow what is disabled."""

import secrets
from collections.abc import AsyncIterator

import pytest

from services.callback.settings import CallbackSettings
from shared.kafka import topics_admin
from tests.integration.callback_http.support import secret
from tests.integration.kafka.support import delete_topics


@pytest.fixture
async def settings(kafka_address: str) -> AsyncIterator[CallbackSettings]:
    found = CallbackSettings(
        kafka=kafka_address,
        topic_prefix=f"t-{secrets.token_hex(4)}.",
        partitions=1,
        webhook_secrets=secret("current"),
        callback_allow="127.0.0.0/8",
    )
    await topics_admin.apply(found)
    yield found
    await delete_topics(found)
