"""`/docs`: the API's description as one page that needs nothing from the internet.

Its parts are put together once; the browser runs exactly the script that is hashed here and loads nothing.
"""

import hashlib
from base64 import b64encode
from importlib.resources import files
from typing import Final

from fastapi import APIRouter
from starlette.responses import HTMLResponse, Response

__all__ = ["docs_router"]

PARTS: Final = "docs_page"


def docs_router() -> APIRouter:
    """The route of the page."""
    style, script = _part("page.css"), _part("page.js")
    page = _part("page.html").replace("{style}", style).replace("{script}", script)
    headers = {
        "Content-Security-Policy": (
            f"default-src 'none'; style-src {_source(style)}; script-src {_source(script)}; "
            "img-src data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        ),
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
    }

    async def docs() -> Response:
        return HTMLResponse(page, headers=headers)

    router = APIRouter()
    router.add_api_route("/docs", docs, methods=["GET"], include_in_schema=False)
    return router


def _part(name: str) -> str:
    return files("services.ingest").joinpath(PARTS, name).read_text(encoding="utf-8")


def _source(text: str) -> str:
    digest = b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return f"'sha256-{digest}'"
