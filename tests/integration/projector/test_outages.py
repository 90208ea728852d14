"""The database fails in every way, and projectors take over from each other; the log ends up in the tables.

A proxy fails in the place of the server, which other tests use.
"""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator

import pytest
from pydantic import SecretStr
from sqlalchemy.engine import make_url

from services.projector.settings import ProjectorSettings
from tests.integration.db.support import Inspector
from tests.integration.kafka.support import replaced
from tests.integration.projector.support import feed, process, report, running, until, until_projected
from tests.support.log_builder import LogBuilder
from tests.support.requests import live
from tests.support.tcp_proxy import TcpProxy

pytestmark = [pytest.mark.kafka, pytest.mark.mysql]

REQUESTS = 400


@pytest.fixture
async def proxy(mysql_url: str) -> AsyncIterator[TcpProxy]:
    target = make_url(mysql_url)
    async with TcpProxy(target.host or "", target.port or 3306) as found:
        yield found


@pytest.fixture
def through_proxy(settings: ProjectorSettings, proxy: TcpProxy) -> ProjectorSettings:
    """Settings whose database may fail, with a deadline that is soon over."""
    url = make_url(settings.mysql.get_secret_value()).set(host="127.0.0.1", port=proxy.port)
    return settings.model_copy(
        update={
            "mysql": SecretStr(url.render_as_string(hide_password=False)),
            "write_timeout_ms": 2_000,
            "batch_records": 20,
        }
    )


def lives(first: int, count: int) -> LogBuilder:
    log = LogBuilder()
    for number in range(first, first + count):
        live(log, number)
    return log


def complete(database: Inspector) -> bool:
    [events] = database.fetch("SELECT COUNT(*) AS n FROM request_events")
    [delivered] = database.fetch(
        "SELECT COUNT(*) AS n FROM requests WHERE status = 'succeeded' AND callback_status = 'delivered'"
    )
    return (events["n"], delivered["n"]) == (3 * REQUESTS, REQUESTS)


async def test_a_database_that_cuts_or_refuses_is_waited_for(
    settings: ProjectorSettings, through_proxy: ProjectorSettings, proxy: TcpProxy, database: Inspector
) -> None:
    await feed(settings, lives(0, REQUESTS).records())
    async with running(through_proxy) as projector:
        for _ in range(5):
            await until(lambda: projector.readiness()["working"])
            proxy.cut()
            await until(lambda: not projector.readiness()["working"])
        proxy.refuse(True)
        await until(lambda: not projector.readiness()["working"])
        proxy.refuse(False)
        await until_projected(settings)
    assert complete(database)


async def test_a_database_that_hangs_is_left_at_the_deadline(
    settings: ProjectorSettings, through_proxy: ProjectorSettings, proxy: TcpProxy, database: Inspector
) -> None:
    async with running(through_proxy) as projector:
        await until(lambda: projector.readiness()["working"])
        proxy.hang()
        await feed(settings, lives(0, REQUESTS).records())
        await until(lambda: not projector.readiness()["working"])
        proxy.flow()
        await until_projected(settings)
    assert complete(database)


async def test_a_commit_whose_answer_is_lost_is_not_applied_twice(
    settings: ProjectorSettings, through_proxy: ProjectorSettings, proxy: TcpProxy, database: Inspector
) -> None:
    await feed(settings, lives(0, REQUESTS).records())
    lost = 0
    async with running(through_proxy) as projector:
        for _ in range(5):
            await until(lambda: projector.readiness()["working"])
            proxy.swallow_answer_to = b"COMMIT"
            if lost < 3:
                await until(lambda: proxy.swallow_answer_to is None)
                lost += 1
        proxy.swallow_answer_to = None
        await until_projected(settings)
    assert lost == 3
    assert complete(database)


async def test_a_standby_takes_over_from_a_killed_projector(
    settings: ProjectorSettings, database: Inspector
) -> None:
    await feed(settings, lives(0, REQUESTS).records())
    async with process(settings) as first:
        await until_projected(settings)
        async with running(settings) as standby:
            await until(lambda: standby.readiness()["working"])
            assert standby.leading is False
            first.send_signal(signal.SIGKILL)
            began = time.monotonic()
            await until(lambda: standby.leading)
            report(f"takeover after SIGKILL: {time.monotonic() - began:.2f} s")
            await until_projected(settings)
    assert complete(database)


async def test_a_projector_that_hangs_loses_its_place_and_harms_nothing_when_it_wakes(
    settings: ProjectorSettings, database: Inspector
) -> None:
    impatient = settings.model_copy(update={"write_timeout_ms": 2_000})
    await feed(settings, lives(0, REQUESTS // 2).records())
    async with process(impatient) as first:
        await until_projected(settings)
        os.kill(first.pid, signal.SIGSTOP)
        began = time.monotonic()
        async with running(impatient) as standby:
            await until(lambda: standby.leading)
            report(f"takeover after SIGSTOP: {time.monotonic() - began:.2f} s")
            await feed(settings, lives(REQUESTS // 2, REQUESTS // 2).records())
            os.kill(first.pid, signal.SIGCONT)
            await until_projected(settings)
            assert standby.leading
    assert complete(database)


async def test_projectors_without_the_lock_are_fenced(
    settings: ProjectorSettings, database: Inspector, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some clusters of databases do not share named locks; the fence alone has to do."""

    async def granted(_: object, __: int) -> bool:
        return True

    monkeypatch.setattr("shared.db.writer.ProjectionSession.acquire", granted)
    small = settings.model_copy(update={"batch_records": 20, "batch_interval_ms": 0})
    await feed(settings, lives(0, REQUESTS).records())
    async with running(small), running(small):
        await until_projected(settings)
        await asyncio.sleep(0)
    assert complete(database)


@pytest.mark.outage
@pytest.mark.parametrize("task", ["fetch", "metadata"])
async def test_a_client_of_the_log_that_has_died_is_replaced(
    settings: ProjectorSettings, database: Inspector, task: str
) -> None:
    """It would return nothing for ever, and the lag that it knows would be none."""
    await feed(settings, lives(0, REQUESTS // 2).records())
    before = replaced("projector", f"dead_{task}_task")
    async with running(settings) as projector:
        await until_projected(settings)
        source = projector._source
        assert source is not None
        client = source._client
        (client._client._sync_task if task == "metadata" else client._fetcher._fetch_task).cancel()
        began = time.monotonic()
        await until(lambda: not projector.readiness()["working"])
        await until(lambda: projector.readiness()["working"])
        assert time.monotonic() - began < 5
        await feed(settings, lives(REQUESTS // 2, REQUESTS // 2).records())
        await until_projected(settings)
    assert complete(database)
    assert replaced("projector", f"dead_{task}_task") == before + 1
