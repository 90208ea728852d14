"""Health and metrics over HTTP for services that serve nothing else."""

from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Self

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from shared.settings import ServiceSettings

__all__ = ["HealthServer", "Readiness"]

Readiness = Callable[[], Mapping[str, bool]]
"""Named conditions; a service is ready when all of them hold. Must answer at once."""


class HealthServer:
    """Serves `/health/live`, `/health/ready` and `/metrics` while it is entered."""

    def __init__(self, settings: ServiceSettings, readiness: Readiness) -> None:
        self._settings = settings
        self._readiness = readiness
        app = web.Application()
        app.router.add_get("/health/live", _live)
        app.router.add_get("/health/ready", self._ready)
        app.router.add_get("/metrics", _metrics)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)

    async def __aenter__(self) -> Self:
        """Start to serve.

        Raises:
            OSError: the address is in use.
        """
        await self._runner.setup()
        site = web.TCPSite(self._runner, self._settings.health_host, self._settings.health_port)
        await site.start()
        return self

    async def _ready(self, _: web.Request) -> web.Response:
        checks = self._readiness()
        ready = all(checks.values())
        body = {"status": "ready" if ready else "starting", "checks": dict(checks)}
        return web.json_response(body, status=200 if ready else 503)

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._runner.cleanup()


async def _live(_: web.Request) -> web.Response:
    return web.json_response({"status": "live"})


async def _metrics(_: web.Request) -> web.Response:
    return web.Response(body=generate_latest(), headers={"Content-Type": CONTENT_TYPE_LATEST})
