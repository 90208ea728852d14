"""The whole of consuma on one machine: broker, database and services, started, kept running and ended.

`consuma up` is a shell around it, and so are the tests that kill what it runs. Whatever ends it, also
half-way through its start, ends every process that it started.
"""

import asyncio
import os
import signal
from collections.abc import Iterable, Mapping
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Self

from infra.local.crew import Crew
from infra.local.endpoints import remove_endpoints, write_endpoints
from infra.local.keeper import Keeper
from infra.local.leftovers import end_leftovers
from infra.local.ports import free_port
from infra.local.preflight import own_directory, require_platform, require_port, require_room
from infra.local.reporting import Reporter, SilentReporter
from infra.local.services import SERVICES, ServicePart, ServiceSpec
from infra.local.settings import LocalSettings
from infra.local.stores import Stores
from infra.local.submit_key import submit_environment
from infra.local.webhook_secret import SECRET_NAME, development_secret
from shared.settings import KafkaSettings

__all__ = ["System"]


class System:
    """Runs while it is entered; entered, everything is ready.

    Args:
        settings: directories, ports, and the broker and database to use instead of own ones.
        log: topics' names, partitions and timeouts for every service; its address is replaced.
        environment: further variables for every service.
        services: which to run.
        reporter: who hears the news.
    """

    def __init__(
        self,
        settings: LocalSettings,
        *,
        log: KafkaSettings | None = None,
        environment: Mapping[str, str] | None = None,
        services: Iterable[ServiceSpec] = SERVICES,
        reporter: Reporter | None = None,
    ) -> None:
        self.data_dir = settings.data_dir.expanduser().absolute()
        self.services: dict[str, Keeper] = {}
        """By instance, such as `compute-0`."""

        self.api = f"http://127.0.0.1:{settings.listen_port or free_port()}"
        self._settings = settings
        self._environment = dict(environment or {})
        self._specs = tuple(services)
        self._reporter = reporter or SilentReporter()
        self._stores = Stores(settings, self.data_dir, log or KafkaSettings(), self._reporter)
        self._crews = [self._crew(), self._crew()]
        self._exit = AsyncExitStack()
        self._announced = False

    async def __aenter__(self) -> Self:
        """Start everything and wait until it is ready.

        Raises:
            LocalError: something that a person has to mend.
        """
        async with AsyncExitStack() as stack:
            await self._start(stack)
            self._exit = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._exit.__aexit__(kind, error, trace)

    @property
    def kafka(self) -> str:
        """The bootstrap servers."""
        return self._stores.log.kafka

    @property
    def mysql(self) -> str:
        """URL of the database."""
        return self._stores.mysql

    @property
    def log(self) -> KafkaSettings:
        """What the services are told about the log."""
        return self._stores.log

    async def wait_ready(self, timeout_s: float | None = None) -> None:
        """Wait until every part works.

        Raises:
            LocalError: one dies again and again before it does, or the time is over.
        """
        for crew in self._crews:
            await crew.until_working(timeout_s or self._settings.start_timeout_s)

    async def broken(self) -> None:
        """Wait until something can no longer be kept running."""
        waits = [asyncio.create_task(crew.broken.wait()) for crew in self._crews]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in waits:
                each.cancel()

    async def silent(self) -> list[str]:
        """Names of the parts that do not do their work at this moment, own stores included."""
        names, answers = list(self._parts), [keeper.answers() for keeper in self._parts.values()]
        found = await asyncio.gather(*answers)
        return [name for name, works in zip(names, found, strict=True) if not works]

    def kill(self, name: str) -> int:
        """SIGKILL the process of a part, as an accident would, and return its pid; it is restarted.

        Raises:
            LookupError: the part is between two processes just now.
        """
        return self.signal(name, signal.SIGKILL)

    def signal(self, name: str, number: signal.Signals) -> int:
        """Signal the process of a service or an own store (`kafka`, `mariadb`), and return its pid.

        Raises:
            LookupError: there is no such part, or it is between two processes just now.
        """
        keeper = self._parts[name]
        pid = keeper.pid
        if pid is None:
            raise LookupError(f"{name} is not running just now")
        keeper.signal(number)
        return pid

    def hasten(self) -> None:
        """Have the end that is under way, or comes, take a moment only."""
        for crew in self._crews:
            crew.hasten()

    @property
    def _parts(self) -> dict[str, Keeper]:
        return {name: keeper for crew in self._crews for name, keeper in crew.keepers.items()}

    async def _start(self, stack: AsyncExitStack) -> None:
        stores, services = self._crews
        stack.enter_context(own_directory(self.data_dir))
        await self._prepare()
        stack.callback(remove_endpoints, self.data_dir)
        await stack.enter_async_context(stores)
        await self._stores.start(stores)
        await stack.enter_async_context(services)
        self._reporter.say("topics and schema are in place; starting the services")
        self._start_services(services)
        await services.until_working(self._settings.start_timeout_s)
        self._announced = True
        self._announce()

    async def _prepare(self) -> None:
        """End what an earlier run has left, and look whether everything can be started."""
        remove_endpoints(self.data_dir)
        ended = await asyncio.to_thread(end_leftovers, self.data_dir)
        if ended:
            self._reporter.warn(f"ended {ended} processes that an earlier run on {self.data_dir} had left")
        own_broker, own_database = not self._settings.kafka, not self._stores.mysql
        require_platform(broker=own_broker, database=own_database)
        require_room(self.data_dir)
        require_port(self._settings.listen_port, "the API", "--port")
        if own_broker:
            require_port(self._settings.kafka_port, "Kafka", "--kafka-port, or use it with --kafka")
        if own_database:
            require_port(self._settings.mysql_port, "the database", "--mysql-port, or use it with --mysql")

    def _start_services(self, crew: Crew) -> None:
        environment = self._service_environment()
        for spec in self._specs:
            for number in range(spec.instances):
                part = ServicePart(
                    spec=spec,
                    number=number,
                    listen_port=int(self.api.rpartition(":")[2]),
                    drain_timeout_ms=self._settings.drain_timeout_ms,
                    environment=environment,
                )
                self.services[part.name] = crew.keep(part)

    def _service_environment(self) -> dict[str, str]:
        """What every service is told: the log as it is here, the database, secrets, and what was given."""
        found = {f"CONSUMA_{name.upper()}": str(value) for name, value in self.log.model_dump().items()}
        found["CONSUMA_MYSQL"] = self.mysql
        found["CONSUMA_CRASH_JOURNAL_DIR"] = str(self.data_dir / "journals")
        if not os.environ.get("CONSUMA_WEBHOOK_SECRETS"):
            found["CONSUMA_WEBHOOK_SECRETS"] = development_secret(self.data_dir)
            self._reporter.say(f"callbacks are signed with the secret in {self.data_dir / SECRET_NAME}")
        keys = submit_environment(self.data_dir, {**os.environ, **self._environment})
        return {**found, **self._environment, **keys}

    def _crew(self) -> Crew:
        return Crew(
            self.data_dir,
            log_bytes=self._settings.log_bytes,
            reporter=self._reporter,
            changed=self._announce,
        )

    def _announce(self) -> None:
        """Write down where everything is, once that is known, and again whenever a process is replaced."""
        if self._announced:
            content = {
                "api": self.api,
                "kafka": self.kafka,
                "mysql": self.mysql,
                "pid": os.getpid(),
                "pids": {name: keeper.pid for name, keeper in self.services.items()},
                "urls": {name: keeper.url for name, keeper in self.services.items()},
            }
            write_endpoints(self.data_dir, content)
