"""The broker dies while requests are computed: whoever was accepted ends, without a restart."""

import asyncio
import secrets
from pathlib import Path

import pytest

from services.compute.settings import ComputeSettings
from shared.domain.requests import RequestSucceeded
from shared.kafka import topics_admin
from tests.integration.compute.services import running
from tests.integration.compute.support import bench, nap
from tests.integration.kafka.own_broker import OwnBroker
from tests.integration.kafka.support import until

pytestmark = [pytest.mark.kafka, pytest.mark.slow]


@pytest.fixture
async def settings(broker: OwnBroker, tmp_path: Path) -> ComputeSettings:
    found = ComputeSettings(
        kafka=broker.address,
        topic_prefix=f"t-{secrets.token_hex(4)}.",
        instance="compute-0",
        partitions=2,
        session_timeout_ms=10_000,
        send_timeout_ms=1_500,
        crash_journal_dir=tmp_path / "journals",
    )
    await topics_admin.apply(found)
    return found


async def test_requests_in_work_when_the_broker_dies_end_when_it_is_back(
    settings: ComputeSettings, broker: OwnBroker
) -> None:
    async with bench(settings) as made, running(settings) as service:
        requests = [nap(20, value) for value in range(100)]
        await asyncio.gather(*(made.send(each) for each in requests))
        await until(lambda: len(made.results.records) > 10)
        broker.kill()
        await broker.start()
        await made.ended(requests)
        for value, each in enumerate(requests):
            results = {event.result for event in made.outcomes(each) if isinstance(event, RequestSucceeded)}
            assert results == {f'{{"value":{value}}}'}
        assert not service.task.done()
