"""How a service process runs: one event loop, signals that ask it to stop, an exit code that tells why."""

import asyncio
import signal
import sys
from collections.abc import Awaitable, Callable

import structlog
import uvloop

from shared.observability.logs import configure_logging
from shared.settings import ServiceSettings

__all__ = ["run_service"]

log = structlog.get_logger()

ServiceMain = Callable[[asyncio.Event], Awaitable[None]]
"""Runs until the event is set, then drains and returns."""


def run_service(settings: ServiceSettings, main: ServiceMain) -> int:
    """Run `main` until SIGTERM or SIGINT; returns 0 after a drained stop and 1 after a failure."""
    configure_logging(settings)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_run(main))
    except Exception:
        log.exception("service.failed", instance=settings.instance)
        return 1
    log.info("service.stopped")
    return 0


async def _run(main: ServiceMain) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    log.info("service.starting", python=sys.version.split()[0])
    await main(stop)
