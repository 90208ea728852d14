"""The composition root: one process of the API."""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from importlib.metadata import version
from typing import Final

import structlog
from fastapi import APIRouter, FastAPI
from starlette.types import Receive, Scope, Send

from services.ingest.bodies import Bodies
from services.ingest.destinations import DestinationHandlers
from services.ingest.docs import docs_router
from services.ingest.failures import install_handlers
from services.ingest.guard import Guard
from services.ingest.health import HealthHandlers
from services.ingest.intake import Intake
from services.ingest.openapi import DESCRIPTION, TAGS, install
from services.ingest.operations import OperationHandlers
from services.ingest.queries import QueryHandlers
from services.ingest.replies import Replies
from services.ingest.request_log import RequestLog
from services.ingest.settings import IngestSettings
from services.ingest.submissions import SubmissionHandlers
from services.ingest.submitting import Submitter
from services.ingest.visibility import Visibility
from shared.db.database import Database
from shared.db.queries import RequestQueries
from shared.destinations.directory import DestinationDirectory
from shared.operations.registry import Registry, load_registry

__all__ = ["IngestApp", "create_app"]

log = structlog.get_logger()

START_WAIT_S: Final = 1.5
"""Callers who are left waiting because no worker is ready still hear so within two seconds."""

START_POLL_S: Final = 0.01


class IngestApp:
    """An ASGI application that owns its connections between start-up and shutdown.

    It serves from the start, whatever is away: what needs Kafka or the database answers 503 until that is
    back.
    """

    def __init__(self, settings: IngestSettings, registry: Registry) -> None:
        self.broken = asyncio.Event()
        """Set when a task that runs for ever has ended; its error is in the log."""

        self._shares_port = settings.workers > 1
        self._log = RequestLog(settings)
        self._replies = Replies(settings)
        self._database = Database(settings)
        self._directory = DestinationDirectory(settings)
        self.api = FastAPI(
            title="consuma",
            version=version("consuma"),
            description=DESCRIPTION,
            openapi_tags=[dict(tag) for tag in TAGS],
            generate_unique_id_function=lambda route: route.name,
            docs_url=None,
            redoc_url=None,
            lifespan=self._lifespan,
        )
        for router in self._routers(settings, registry):
            self.api.include_router(router)
        install(self.api)
        install_handlers(self.api)
        self._guarded = Guard(self.api, settings)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One ASGI call."""
        await self._guarded(scope, receive, send)

    def release(self) -> None:
        """Send everybody who waits for an outcome away with 202: the process is stopping."""
        self._replies.release()

    def checks(self) -> Mapping[str, bool]:
        """Named conditions for taking work."""
        return {"kafka": self._log.ready, "replies": self._replies.ready}

    def _routers(self, settings: IngestSettings, registry: Registry) -> list[APIRouter]:
        queries = RequestQueries(self._database, settings)
        visibility = Visibility(settings, queries, self._log.ends)
        submitter = Submitter(settings, self._log, queries.request)
        bodies = Bodies(settings)
        intake = self._intake = Intake(bodies, registry)
        return [
            SubmissionHandlers(settings, intake, submitter, self._replies, visibility).router(),
            QueryHandlers(settings, queries, visibility).router(),
            OperationHandlers(registry).router(),
            DestinationHandlers(bodies, self._directory, self._log).router(),
            HealthHandlers(self.checks).router(),
            docs_router(),
        ]

    @asynccontextmanager
    async def _lifespan(self, _: FastAPI) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            stack.push_async_callback(self._database.close)
            stack.push_async_callback(self._log.stop)
            stack.push_async_callback(self._intake.close)
            tasks = [
                asyncio.create_task(self._log.connect(), name="connect"),
                asyncio.create_task(self._replies.listen(), name="replies"),
                asyncio.create_task(self._follow_destinations(), name="destinations"),
                asyncio.create_task(self._intake.warm_up(), name="decoder"),
            ]
            for task in tasks:
                task.add_done_callback(self._watch)
                stack.push_async_callback(_cancel, task)
            if self._shares_port:
                await self._until_ready()
            yield

    async def _until_ready(self) -> None:
        """Leave new callers to the other workers until this one can serve them; not for long, if none can."""
        give_up_at = time.monotonic() + START_WAIT_S
        while not all(self.checks().values()) and time.monotonic() < give_up_at:  # noqa: ASYNC110
            await asyncio.sleep(START_POLL_S)

    async def _follow_destinations(self) -> None:
        await self._directory.load()
        await self._directory.run()

    def _watch(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("ingest.task_failed", task=task.get_name(), exc_info=error)
            self.broken.set()


def create_app(settings: IngestSettings, registry: Registry | None = None) -> IngestApp:
    """The API as an ASGI application; `registry` is the installation's unless given."""
    return IngestApp(settings, registry or load_registry())


async def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait([task])
