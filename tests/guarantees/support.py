"""A whole system of one's own."""

import secrets
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final

from pydantic import SecretStr
from sqlalchemy.engine import URL

from infra.local.services import SERVICES, ServiceSpec
from infra.local.settings import LocalSettings
from infra.local.system import System
from shared.settings import KafkaSettings
from tests.conftest import drop_database
from tests.integration.kafka.support import delete_topics

__all__ = ["SECRET", "running_system", "system_log"]

FEWER: Final = [replace(each, instances=min(each.instances, 2)) for each in SERVICES]
"""As `consuma up` runs them, but for half of the compute processes: what is promised holds for any number."""

SECRET: Final = "whsec_" + "c2VjcmV0IG9mIHRoZSBndWFyYW50ZWUgdGVzdHM="


def system_log(kafka_address: str) -> KafkaSettings:
    """Topics of one's own, on a group whose dead members are noticed soon."""
    return KafkaSettings(
        kafka=kafka_address, topic_prefix=f"g-{secrets.token_hex(4)}.", session_timeout_ms=10_000
    )


@asynccontextmanager
async def running_system(
    log: KafkaSettings,
    mysql_server: URL,
    directory: Path,
    *,
    services: Iterable[ServiceSpec] = FEWER,
    environment: Mapping[str, str] | None = None,
) -> AsyncIterator[System]:
    """Every service as a process, on the session's broker and database."""
    name = f"consuma_test_{secrets.token_hex(4)}"
    database = mysql_server.set(database=name).render_as_string(hide_password=False)
    settings = LocalSettings(data_dir=directory, kafka=log.kafka, mysql=SecretStr(database), listen_port=0)
    own = {"CONSUMA_WEBHOOK_SECRETS": SECRET, **(environment or {})}
    try:
        async with System(settings, log=log, services=services, environment=own) as system:
            yield system
    finally:
        await delete_topics(log)
        drop_database(mysql_server, name)
