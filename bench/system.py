"""A whole system of a benchmark's own."""

import secrets
import tempfile
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from infra.local.services import SERVICES, ServiceSpec
from infra.local.settings import LocalSettings
from infra.local.system import System
from shared.settings import KafkaSettings

__all__ = ["own_system"]


@asynccontextmanager
async def own_system(
    *, services: Iterable[ServiceSpec] = SERVICES, environment: Mapping[str, str] | None = None
) -> AsyncIterator[tuple[System, KafkaSettings]]:
    """A running system on the embedded broker and database, and how to reach its log."""
    log = KafkaSettings(topic_prefix=f"bench-{secrets.token_hex(4)}.")
    with tempfile.TemporaryDirectory(prefix="consuma-bench-") as directory:
        settings = LocalSettings(data_dir=Path(directory), listen_port=0, kafka_port=0, mysql_port=0)
        async with System(settings, log=log, services=services, environment=environment) as system:
            yield system, log.model_copy(update={"kafka": system.kafka})
