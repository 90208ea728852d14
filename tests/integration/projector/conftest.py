"""Topics of one's own and an empty read side for each test."""

import secrets
from collections.abc import AsyncIterator, Iterator

import pytest
from pydantic import SecretStr

from services.projector.settings import ProjectorSettings
from shared.kafka import topics_admin
from tests.integration.db.support import Inspector
from tests.integration.kafka.support import delete_topics


@pytest.fixture
def database(mysql_url: str) -> Iterator[Inspector]:
    inspector = Inspector(mysql_url)
    inspector.clear()
    yield inspector
    inspector.close()


@pytest.fixture
async def settings(
    kafka_address: str, mysql_url: str, database: Inspector
) -> AsyncIterator[ProjectorSettings]:
    found = ProjectorSettings(
        kafka=kafka_address,
        mysql=SecretStr(mysql_url),
        topic_prefix=f"t-{secrets.token_hex(4)}.",
        instance="projector-0",
        partitions=2,
    )
    await topics_admin.apply(found)
    yield found
    await delete_topics(found)
