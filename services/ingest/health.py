"""`/health/live`, `/health/ready` and `/metrics`."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from fastapi import APIRouter
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.responses import Response

from services.ingest import metrics
from services.ingest.answers import StatusAnswer, json_response
from services.ingest.openapi import answers

__all__ = ["HealthHandlers"]


_METRICS_ANSWER: Final[dict[str, Any]] = {
    "description": "Every metric of every worker process.",
    "content": {
        "text/plain": {"schema": {"type": "string"}, "example": 'consuma_submissions_total{mode="sync"} 42.0'}
    },
}


class HealthHandlers:
    """Tells the supervisor, the load balancer and Prometheus how the process is.

    Args:
        checks: named conditions for taking work. The database is none of them: submitting goes on without it.
    """

    def __init__(self, checks: Callable[[], Mapping[str, bool]]) -> None:
        self._checks = checks

    def router(self) -> APIRouter:
        """The routes, documented."""
        router = APIRouter(tags=["health"], default_response_class=Response)
        router.add_api_route(
            "/health/live",
            self.live,
            methods=["GET"],
            summary="Whether the process runs",
            responses=answers({200: (StatusAnswer, "It runs.")}, guarded=False),
        )
        router.add_api_route(
            "/health/ready",
            self.ready,
            methods=["GET"],
            summary="Whether requests can be accepted",
            responses=answers(
                {200: (StatusAnswer, "They can."), 503: (StatusAnswer, "Not now; `checks` tells why.")},
                guarded=False,
            ),
        )
        router.add_api_route(
            "/metrics",
            self.metrics,
            methods=["GET"],
            summary="Metrics for Prometheus",
            responses=answers({}) | {200: _METRICS_ANSWER},
        )
        return router

    async def live(self) -> Response:
        """Answers as long as the event loop turns."""
        return json_response(StatusAnswer(status="live"))

    async def ready(self) -> Response:
        """Whether Kafka has been reached and replies are heard."""
        checks = dict(self._checks())
        ready = all(checks.values())
        answer = StatusAnswer(status="ready" if ready else "starting", checks=checks)
        return json_response(answer, 200 if ready else 503)

    async def metrics(self) -> Response:
        """Counters and histograms in Prometheus' text format."""
        return Response(metrics.exposition(), media_type=CONTENT_TYPE_LATEST)
