"""G1: whichever process is killed, whenever: every accepted request has one outcome and one callback."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import pytest
from sqlalchemy.engine import URL

from infra.local.services import SERVICES
from infra.local.system import System
from services.callback.origin_queue import UNRECORDED_SHARE
from shared.testing.drill.drill import DrillPlan, run_drill
from shared.testing.drill.probe import worst_delays
from shared.testing.receiver import Receiver
from shared.testing.receiver_calls import ReceiverCalls
from tests.guarantees.support import SECRET, running_system, system_log

pytestmark = [pytest.mark.kafka, pytest.mark.mysql, pytest.mark.slow, pytest.mark.timeout(240)]

KILLS: Final = 2
COMPUTE_ONLY: Final = [each for each in SERVICES if each.name == "compute"]
OTHERS_S: Final = 5.0
"""Far above what others feel (`bench/kill_one.py` measures it), far below the session timeout."""

MAY_BE_IN_FLIGHT: Final = 8 * UNRECORDED_SHARE
"""Calls to one origin that are under way or not recorded: what its receiver may have answered at a death."""

PLAN: Final = {"rest": 240, "kcat": 120, "confluent": 120}


@pytest.mark.parametrize("victim", ["ingest-0", "compute-1", "callback-0", "projector-0"])
async def test_a_killed_service_changes_nothing_but_the_time(
    victim: str, kafka_address: str, mysql_server: URL, tmp_path: Path
) -> None:
    log = system_log(kafka_address)
    async with running_system(log, mysql_server, tmp_path) as system, receiving() as receiver:
        killer = asyncio.create_task(kill_now_and_then(system, victim))
        verdict = await run_drill(
            DrillPlan(name=f"kill-{victim}", **PLAN), log, system.api, ReceiverCalls(receiver)
        )
        assert await killer == KILLS
    repeats = KILLS * MAY_BE_IN_FLIGHT if victim.startswith("callback") else 0
    assert verdict.kept(repeats=repeats), "\n".join(verdict.lines())


@asynccontextmanager
async def receiving() -> AsyncIterator[Receiver]:
    async with Receiver(secrets=[SECRET], keep_bodies=True) as receiver:
        yield receiver


async def kill_now_and_then(system: System, victim: str) -> int:
    """Kill `victim` at moments that differ from run to run; each time it comes back."""
    draw = random.Random()  # noqa: S311 - any moment will do
    for _ in range(KILLS):
        await asyncio.sleep(draw.uniform(0.1, 1.5))
        system.kill(victim)
        await system.wait_ready()
    return KILLS


async def test_others_go_on_while_one_of_four_compute_processes_is_away(
    kafka_address: str, mysql_server: URL, tmp_path: Path
) -> None:
    log = system_log(kafka_address)
    async with running_system(log, mysql_server, tmp_path, services=COMPUTE_ONLY) as system:

        async def kill() -> None:
            system.kill("compute-2")
            await system.wait_ready()

        delays = await worst_delays(log, 5.0, kill)
    late = {partition: delay_s for partition, delay_s in delays.items() if delay_s > OTHERS_S}
    assert len(late) <= log.partitions // 4, f"delays by partition: {delays}"
