"""`consuma up`: everything on this machine, until told to stop."""

import asyncio
import signal
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import structlog
from cyclopts import Parameter
from pydantic import SecretStr

from infra.local.errors import LocalError
from infra.local.reporting import ConsoleReporter
from infra.local.settings import LocalSettings
from infra.local.system import System

__all__ = ["up"]


def up(
    *,
    port: Annotated[int | None, Parameter(help="Port of the HTTP API [8000].")] = None,
    data_dir: Annotated[Path | None, Parameter(help="Directory of data and logs [.consuma].")] = None,
    kafka: Annotated[str | None, Parameter(help="host:port of a running broker, to use that one.")] = None,
    mysql: Annotated[str | None, Parameter(help="URL of a running database, to use that one.")] = None,
    kafka_port: Annotated[int | None, Parameter(help="Port of the broker that is started [9092].")] = None,
    mysql_port: Annotated[int | None, Parameter(help="Port of the database that is started [3307].")] = None,
) -> int:
    """Start a broker, a database and every service on this machine, and keep them running.

    Fetches the broker and the database the first time. Prints one line when everything is ready. Ctrl-C ends
    everything, a second Ctrl-C at once; what was submitted survives.
    """
    given: dict[str, Any] = {
        "listen_port": port,
        "data_dir": data_dir,
        "kafka": kafka,
        "mysql": None if mysql is None else SecretStr(mysql),
        "kafka_port": kafka_port,
        "mysql_port": mysql_port,
    }
    settings = LocalSettings(**{name: value for name, value in given.items() if value is not None})
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger("warning"))
    with ConsoleReporter() as reporter:
        try:
            return asyncio.run(_run(settings, reporter))
        except LocalError as error:
            reporter.warn(str(error))
        except OSError as error:
            reporter.warn(f"the system refused something ({error}): see `consuma doctor` for what it lacks")
    return 1


async def _run(settings: LocalSettings, reporter: ConsoleReporter) -> int:
    began = time.monotonic()
    system = System(settings, reporter=reporter)
    running = asyncio.create_task(_serve(system, reporter, began))
    signals = 0

    def on_signal() -> None:
        nonlocal signals
        signals += 1
        if signals == 1:
            reporter.say("stopping; once more to hasten")
            running.cancel()
        else:
            system.hasten()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, on_signal)
    await asyncio.wait([running])
    if running.cancelled():
        reporter.say("stopped")
        return 0
    return running.result()


async def _serve(system: System, reporter: ConsoleReporter, began: float) -> int:
    async with system:
        sys.stdout.write(
            f"consuma is ready after {time.monotonic() - began:.1f} s: {system.api} (try {system.api}/docs), "
            f"Kafka {system.kafka}, database {_shown(system.mysql)}, data and logs in {system.data_dir}\n"
        )
        sys.stdout.flush()
        await system.broken()
    reporter.warn("something could not be kept running; everything was stopped")
    return 1


def _shown(url: str) -> str:
    from sqlalchemy.engine import make_url

    return make_url(url).render_as_string(hide_password=True)
