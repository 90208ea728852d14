"""Only records that this process itself decodes, or a slot runs, are held: a death is blamed on no others."""

import asyncio
from pathlib import Path
from typing import cast

from services.compute.execution import Announcer, ExecutionContext
from services.compute.handlers import Compute
from services.compute.journal import Journal
from services.compute.replies import Replies
from services.compute.settings import ComputeSettings
from services.compute.slot_pool import SlotPool, SlotPoolSettings
from shared.kafka.quarantine import Quarantine
from shared.kafka.records import Record
from shared.operations.registry import load_registry
from tests.support.waiting import until


class Dead:
    """Remembers the records that were set aside."""

    def __init__(self) -> None:
        self.letters = 0

    async def dead_letter(self, _: object) -> None:
        self.letters += 1


async def test_long_records_that_wait_for_the_decoder_are_not_held(tmp_path: Path) -> None:
    settings = ComputeSettings(topic_prefix="t.", crash_journal_dir=tmp_path)
    quarantine = Quarantine(tmp_path)
    quarantine.open("compute-0", "t.compute", "cluster")
    dead = Dead()
    journal = cast("Journal", dead)
    context = ExecutionContext(
        pool=SlotPool(SlotPoolSettings()),
        journal=journal,
        announcer=Announcer(journal, instance="compute-0", after_ms=1),
        quarantine=quarantine,
    )
    compute = Compute(settings, load_registry(), context, cast("Replies", None))
    long = b"[" + b"1," * 10_000 + b"1]"
    records = [Record("t.requests", 0, offset, 1, None, long) for offset in range(20)]
    handling = [asyncio.create_task(compute.handle(each)) for each in records]
    for _ in range(50):
        await asyncio.sleep(0.001)
        assert held(tmp_path) == 0
    await until(lambda: dead.letters == 20, timeout_s=30)
    await asyncio.gather(*handling)
    await compute.close()
    quarantine.close()


def held(directory: Path) -> int:
    """Entries of the journal that name a record."""
    (file,) = directory.glob("*.journal")
    data = file.read_bytes()
    return sum(data[at] for at in range(64, len(data), 288))
