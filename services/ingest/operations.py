"""`GET /v1/operations`: what this installation can compute."""

import msgspec
from fastapi import APIRouter
from starlette.responses import Response

from services.ingest.answers import OperationsAnswer, json_response
from services.ingest.openapi import answers
from shared.operations.registry import Registry

__all__ = ["OperationHandlers"]


class OperationHandlers:
    """Answers from the registry, which does not change while the process runs."""

    def __init__(self, registry: Registry) -> None:
        self._answer = msgspec.convert({"items": registry.describe()}, OperationsAnswer)

    def router(self) -> APIRouter:
        """The routes, documented."""
        router = APIRouter(tags=["operations"], default_response_class=Response)
        router.add_api_route(
            "/v1/operations",
            self.operations,
            name="list_operations",
            methods=["GET"],
            summary="The operations that can be asked for",
            responses=answers({200: (OperationsAnswer, "Every operation, by name.")}),
        )
        return router

    async def operations(self) -> Response:
        """Names, descriptions, input schemas, limits, and an example of each."""
        return json_response(self._answer)
