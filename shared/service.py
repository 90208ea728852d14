"""How a service process runs: one event loop, signals that ask it to stop, an exit code that tells why."""

import asyncio
import gc
import signal
import sys
from collections.abc import Awaitable, Callable
from typing import Final

import structlog
import uvloop

from shared.observability.logs import configure_logging
from shared.settings import ServiceSettings

__all__ = ["calm_collector", "run_service"]

log = structlog.get_logger()

COLLECTOR_THRESHOLDS: Final = (5_000, 10, 500)
"""Young cycles are collected as usual, in about a millisecond. A full collection stops the event loop for as
long as it takes to visit every object, 50 to 400 ms with some thousand waiting tasks: one in 25 million."""

ServiceMain = Callable[[asyncio.Event], Awaitable[None]]
"""Runs until the event is set, then drains and returns."""


def run_service(settings: ServiceSettings, main: ServiceMain) -> int:
    """Run `main` until SIGTERM or SIGINT; returns 0 after a drained stop and 1 after a failure."""
    configure_logging(settings)
    calm_collector()
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_run(main))
    except Exception as error:
        log.exception("service.failed", error=_words(error), instance=settings.instance)
        return 1
    log.info("service.stopped")
    return 0


def _words(error: BaseException) -> str:
    """What a person has to know first; of a group, what its first error says."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return f"{type(error).__name__}: {error}"


def calm_collector() -> None:
    """Leave out of every collection what exists now, which stays; and make full collections rare."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*COLLECTOR_THRESHOLDS)


async def _run(main: ServiceMain) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    log.info("service.starting", python=sys.version.split()[0])
    await main(stop)
