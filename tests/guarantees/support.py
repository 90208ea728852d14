"""A whole system of one's own, and a receiver that remembers."""

import secrets
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from pydantic import SecretStr
from sqlalchemy.engine import URL

from infra.local.services import SERVICES, ServiceSpec
from infra.local.settings import LocalSettings
from infra.local.system import System
from shared.settings import KafkaSettings
from shared.testing.drill.ledger import Call
from shared.testing.receiver import ReceivedCall, Receiver
from tests.conftest import drop_database
from tests.integration.kafka.support import delete_topics

__all__ = ["SECRET", "Calls", "running_system", "system_log"]

SECRET: Final = "whsec_" + "c2VjcmV0IG9mIHRoZSBndWFyYW50ZWUgdGVzdHM="


class Calls:
    """A receiver's memory as the drill judges it."""

    def __init__(self, receiver: Receiver, path: str = "/hook") -> None:
        self._receiver = receiver
        self._path = path

    @property
    def url(self) -> str:
        """Where it takes callbacks."""
        return self._receiver.url(self._path)

    def calls(self) -> Mapping[str, Sequence[Call]]:
        """Every accepted call so far, by `webhook-id`."""
        found: dict[str, list[Call]] = defaultdict(list)
        for call in self._receiver.calls:
            if call.accepted and call.path == self._path:
                found[call.webhook_id].append(_call(call))
        return found


def _call(call: ReceivedCall) -> Call:
    assert call.body is not None, "the receiver was not told to keep bodies"
    return Call(call.body, verified=bool(call.signed))


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
    services: Iterable[ServiceSpec] = SERVICES,
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
