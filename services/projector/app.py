"""The projector put together: health first, so that a process which waits for its database can be asked."""

import asyncio
from collections.abc import Awaitable, Callable

from services.projector.handlers import Projector
from services.projector.settings import ProjectorSettings
from shared.http.health import HealthServer

__all__ = ["create_app"]


def create_app(settings: ProjectorSettings) -> Callable[[asyncio.Event], Awaitable[None]]:
    """What `run_service` runs: projects until the event is set, then ends the batch in work."""

    async def main(stop: asyncio.Event) -> None:
        projector = Projector(settings)
        async with HealthServer(settings, projector.readiness):
            await projector.run(stop)

    return main
