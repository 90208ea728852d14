"""G4: killed in mid-work, repeated, or rebuilt from the first offset: the tables are the same."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest
from pydantic import SecretStr
from sqlalchemy.engine import URL

from infra.local.system import System
from services.projector.settings import ProjectorSettings
from shared.db.migrate import upgrade
from shared.settings import KafkaSettings
from shared.testing.drill.drill import DrillPlan, run_drill
from shared.testing.receiver import Receiver
from shared.testing.receiver_calls import ReceiverCalls
from tests.conftest import drop_database
from tests.guarantees.support import SECRET, running_system, system_log
from tests.integration.db.support import Inspector
from tests.integration.projector.support import running, until_projected

pytestmark = [pytest.mark.kafka, pytest.mark.mysql, pytest.mark.slow, pytest.mark.timeout(240)]

KILLS: Final = 6
BATCHES: Final = (7, 1_000)
PLAN: Final = DrillPlan(name="projection", rest=120, kcat=60, confluent=60)


async def test_tables_survive_kills_and_equal_every_rebuild_from_the_first_offset(
    kafka_address: str, mysql_server: URL, tmp_path: Path
) -> None:
    log = system_log(kafka_address)
    async with (
        Receiver(secrets=[SECRET], keep_bodies=True) as receiver,
        running_system(log, mysql_server, tmp_path) as system,
    ):
        killer = asyncio.create_task(kill_projector(system))
        verdict = await run_drill(PLAN, log, system.api, ReceiverCalls(receiver))
        await killer
        assert verdict.kept(), "\n".join(verdict.lines())
        live = projector_settings(log, system.mysql)
        await until_projected(live)
        tables = dump(system.mysql)
        assert len(tables["requests"]) == verdict.accepted
        for batch_records in BATCHES:
            with empty_database(mysql_server, f"consuma_test_rebuild_{batch_records}") as url:
                rebuilt = projector_settings(log, url, batch_records)
                async with running(rebuilt):
                    await until_projected(rebuilt)
                assert dump(url) == tables


async def kill_projector(system: System) -> None:
    for _ in range(KILLS):
        system.kill("projector-0")
        await system.wait_ready()


def projector_settings(log: KafkaSettings, url: str, batch_records: int = 1_000) -> ProjectorSettings:
    own = {"mysql": SecretStr(url), "instance": "projector-9", "batch_records": batch_records}
    return ProjectorSettings.model_validate({**log.model_dump(), **own})


def dump(url: str) -> dict[str, list[dict[str, object]]]:
    inspector = Inspector(url)
    try:
        return inspector.dump()
    finally:
        inspector.close()


@contextmanager
def empty_database(server: URL, name: str) -> Iterator[str]:
    """A migrated database, dropped at the end."""
    drop_database(server, name)
    url = server.set(database=name).render_as_string(hide_password=False)
    upgrade(url)
    yield url
    drop_database(server, name)
