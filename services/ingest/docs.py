"""`/docs`: the API's description as a page that needs nothing from the internet."""

from importlib.resources import files

from fastapi import APIRouter
from starlette.responses import HTMLResponse, Response

__all__ = ["docs_router"]

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'"
)


def docs_router() -> APIRouter:
    """The route of the page."""
    page = files("services.ingest").joinpath("docs.html").read_text(encoding="utf-8")

    async def docs() -> Response:
        return HTMLResponse(page, headers={"Content-Security-Policy": CONTENT_SECURITY_POLICY})

    router = APIRouter()
    router.add_api_route("/docs", docs, methods=["GET"], include_in_schema=False)
    return router
