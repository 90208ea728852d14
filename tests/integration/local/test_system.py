"""The system as a library, on the session's broker and database."""

import asyncio
import secrets
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from pydantic import SecretStr
from sqlalchemy.engine import URL

from infra.local.errors import LocalError
from infra.local.ports import free_port
from infra.local.services import SERVICES, ServiceSpec
from infra.local.settings import LocalSettings
from infra.local.system import System
from shared.settings import KafkaSettings
from tests.conftest import drop_database
from tests.integration.kafka.support import delete_topics
from tests.integration.local.support import endpoints, processes_of
from tests.support.waiting import until

pytestmark = [pytest.mark.kafka, pytest.mark.mysql, pytest.mark.outage]

FEW = tuple(each for each in SERVICES if each.name in ("ingest", "projector"))


@pytest.fixture
async def log(kafka_address: str) -> AsyncIterator[KafkaSettings]:
    found = KafkaSettings(kafka=kafka_address, topic_prefix=f"l-{secrets.token_hex(4)}.", partitions=2)
    yield found
    await delete_topics(found)


@pytest.fixture
async def settings(tmp_path: Path, log: KafkaSettings, mysql_server: URL) -> AsyncIterator[LocalSettings]:
    name = f"consuma_test_{secrets.token_hex(4)}"
    url = mysql_server.set(database=name).render_as_string(hide_password=False)
    yield LocalSettings(data_dir=tmp_path, kafka=log.kafka, mysql=SecretStr(url), listen_port=0)
    drop_database(mysql_server, name)


async def test_a_killed_service_comes_back_and_is_announced(
    settings: LocalSettings, log: KafkaSettings, tmp_path: Path
) -> None:
    async with System(settings, log=log, services=FEW) as system:
        before = endpoints(tmp_path)
        assert before["kafka"] == log.kafka == system.kafka
        assert before["pids"] == {name: keeper.pid for name, keeper in system.services.items()}
        killed = system.kill("projector-0")
        await system.wait_ready()
        after = endpoints(tmp_path)["pids"]
        assert after["projector-0"] == system.services["projector-0"].pid != killed
        assert after["ingest-0"] == before["pids"]["ingest-0"]
        assert system.services["projector-0"].restarts == 1
    assert processes_of(tmp_path) == []
    assert not (tmp_path / "endpoints.json").exists()


async def test_a_stopped_service_is_silent_until_it_goes_on(
    settings: LocalSettings, log: KafkaSettings
) -> None:
    async with System(settings, log=log, services=FEW) as system:
        assert await system.silent() == []
        stopped = system.signal("projector-0", signal.SIGSTOP)
        assert await system.silent() == ["projector-0"]
        assert system.signal("projector-0", signal.SIGCONT) == stopped
        await answering(system)
        assert system.services["projector-0"].restarts == 0


@pytest.mark.slow
async def test_an_own_broker_that_is_told_to_end_is_started_again_at_its_address(
    settings: LocalSettings, log: KafkaSettings
) -> None:
    own = settings.model_copy(update={"kafka": "", "kafka_port": 0})
    async with System(own, log=log, services=FEW) as system:
        address = system.kafka
        ended = system.signal("kafka", signal.SIGTERM)
        await system.wait_ready()
        await answering(system)
        assert system.signal("kafka", signal.SIGCONT) != ended
        assert system.kafka == address


async def answering(system: System) -> None:
    """Every part does its work."""
    async with asyncio.timeout(60.0):
        while await system.silent():  # noqa: ASYNC110 - processes are asked
            await asyncio.sleep(0.05)


async def test_a_service_that_cannot_start_ends_the_start_and_everything_else(
    settings: LocalSettings, log: KafkaSettings, tmp_path: Path
) -> None:
    services = (*FEW, ServiceSpec(name="nonexistent"))
    with pytest.raises(LocalError, match=r"nonexistent-0 does not start.*No module named"):
        async with System(settings, log=log, services=services):
            pass
    assert processes_of(tmp_path) == []


async def test_a_start_that_is_cancelled_leaves_nothing(
    settings: LocalSettings, log: KafkaSettings, tmp_path: Path
) -> None:
    system = System(settings, log=log, services=FEW)
    starting = asyncio.create_task(system.__aenter__())
    await until(lambda: len(processes_of(tmp_path)) >= 2)
    starting.cancel()
    await asyncio.wait([starting])
    assert starting.cancelled()
    assert processes_of(tmp_path) == []


async def test_a_stopped_service_that_does_not_drain_is_killed(
    settings: LocalSettings, log: KafkaSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("infra.local.services.STOP_MARGIN_S", 0.2)
    hasty = settings.model_copy(update={"drain_timeout_ms": 100})
    async with System(hasty, log=log, services=FEW) as system:
        system.services["projector-0"].signal(signal.SIGSTOP)
    assert processes_of(tmp_path) == []


async def test_a_given_broker_that_is_not_there_is_told(settings: LocalSettings, log: KafkaSettings) -> None:
    address = f"127.0.0.1:{free_port()}"
    with pytest.raises(LocalError, match=f"Kafka at {address} does not answer"):
        async with System(settings.model_copy(update={"kafka": address}), log=log, services=FEW):
            pass


async def test_a_given_database_that_is_not_there_is_told(
    settings: LocalSettings, log: KafkaSettings
) -> None:
    url = SecretStr(f"mysql+aiomysql://me:secret@127.0.0.1:{free_port()}/consuma")
    with pytest.raises(LocalError, match="refused or did not answer") as told:
        async with System(settings.model_copy(update={"mysql": url}), log=log, services=FEW):
            pass
    assert "secret" not in str(told.value)
