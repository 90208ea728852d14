"""A process with a pool of slots and nothing else: what tests stop, kill, and let die.

Run as `python -m tests.unit.compute.lone_consumer LOOP KIND NOTE LIMIT_MS`: runs a hazard in a slot, prints
`running`, then how it ended; it dies as the service does when the slots are lost.
"""

import asyncio
import logging
import sys

import structlog
import uvloop

from services.compute.app import _die
from services.compute.slot import SlotServerError
from services.compute.slot_outcome import Completed
from tests.support.waiting import until
from tests.unit.compute.support import run, running_pool, task_of


async def main(kind: str, note: str, limit_ms: int) -> None:
    async with running_pool(slots=1, spares=0) as pool:
        running = asyncio.create_task(run(pool, task_of(kind, note, limit_ms)))
        await until(lambda: pool.running == 1 or running.done())
        sys.stdout.write("running\n")
        sys.stdout.flush()
        try:
            result = await running
        except SlotServerError:
            _die()
        words = "completed" if isinstance(result, Completed) else result.failure.message
        sys.stdout.write(f"{words}\n")


if __name__ == "__main__":
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    loop, kind, note, limit_ms = sys.argv[1:]
    factory = uvloop.new_event_loop if loop == "uvloop" else asyncio.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(main(kind, note, int(limit_ms)))
