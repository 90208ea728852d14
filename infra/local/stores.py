"""The log and the read side's database: own ones or given ones, with topics and schema applied."""

import asyncio
from pathlib import Path
from typing import Final

from aiokafka.errors import KafkaError
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError

from infra.local.broker import KafkaNode
from infra.local.crew import Crew
from infra.local.database import MariaNode
from infra.local.distribution import Distribution
from infra.local.errors import LocalError, first_error
from infra.local.parts import Part
from infra.local.ports import free_port
from infra.local.reporting import Reporter
from infra.local.settings import LocalSettings
from shared.db.migrate import MigrationLockedError, upgrade
from shared.kafka import topics_admin
from shared.settings import KafkaSettings

__all__ = ["Stores"]

DATABASE: Final = "consuma"


class Stores:
    """Knows where both are; started, they are fit for the services."""

    def __init__(
        self, settings: LocalSettings, data_dir: Path, log: KafkaSettings, reporter: Reporter
    ) -> None:
        self.mysql = settings.mysql.get_secret_value()
        self.log = log.model_copy(update={"kafka": settings.kafka})
        self._settings = settings
        self._data_dir = data_dir
        self._reporter = reporter

    async def start(self, crew: Crew) -> None:
        """Start what is not given, both at once, and apply topics and schema.

        Raises:
            LocalError: that is not possible.
        """
        distribution = Distribution.of(self._settings)
        await distribution.ensure(
            self._settings, self._reporter, kafka=not self.log.kafka, mariadb=not self.mysql
        )
        with first_error():
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._start_log(crew, distribution))
                tasks.create_task(self._start_database(crew, distribution))

    async def _start_log(self, crew: Crew, distribution: Distribution) -> None:
        if not self.log.kafka:
            node = KafkaNode(
                distribution=distribution,
                data_dir=self._data_dir,
                port=self._settings.kafka_port or free_port(),
                controller_port=free_port(),
            )
            await node.prepare()
            await self._have(crew, node)
            self._reporter.say(f"Kafka serves on {node.address}")
            self.log = self.log.model_copy(update={"kafka": node.address})
        try:
            await topics_admin.apply(self.log)
        except topics_admin.TopicConflictError as error:
            raise LocalError(str(error)) from error
        except (KafkaError, TimeoutError, OSError) as error:
            raise LocalError(
                f"Kafka at {self.log.kafka} does not answer ({error!r}): look whether it runs there"
            ) from error

    async def _start_database(self, crew: Crew, distribution: Distribution) -> None:
        if not self.mysql:
            node = MariaNode(
                distribution=distribution,
                data_dir=self._data_dir,
                port=self._settings.mysql_port or free_port(),
            )
            await node.prepare()
            await self._have(crew, node)
            self._reporter.say(f"the database serves on port {node.port}")
            self.mysql = f"{node.server_url}{DATABASE}"
        await self._migrate()

    async def _migrate(self) -> None:
        try:
            await asyncio.to_thread(upgrade, self.mysql)
        except (MigrationLockedError, ValueError) as error:
            raise LocalError(str(error)) from error
        except SQLAlchemyError as error:
            cause = getattr(error, "orig", None) or error
            where = make_url(self.mysql).render_as_string(hide_password=True)
            raise LocalError(f"the database {where} refused or did not answer: {cause}") from error

    async def _have(self, crew: Crew, part: Part) -> None:
        """Start a store and wait until it serves."""
        keeper = crew.keep(part)
        try:
            async with asyncio.timeout(self._settings.start_timeout_s):
                await keeper.until_working()
        except TimeoutError:
            raise LocalError(
                f"{part.name} did not become ready within {self._settings.start_timeout_s:.0f} s; its log is "
                f"{keeper.log.path}; give it more time with CONSUMA_START_TIMEOUT_S"
            ) from None
