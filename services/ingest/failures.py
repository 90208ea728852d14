"""Errors on their way out: what handlers and the framework raise, as problem documents."""

from collections.abc import Awaitable, Callable
from typing import Final

import structlog
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from services.ingest import problems
from services.ingest.problems import Problem
from shared.db.errors import DatabaseAwayError, FilterTooBroadError, InvalidCursorError

__all__ = ["install_handlers"]

log = structlog.get_logger()

CALLER_GONE: Final = 499
"""For the log and the metrics only: nobody is left to be told."""

_UNMATCHED: Final[dict[int, type[Problem]]] = {404: problems.NotFound, 405: problems.MethodNotAllowed}


def install_handlers(app: FastAPI) -> None:
    """Have `app` answer every error that is somebody else's fault, or nobody's, with a problem document."""
    handlers: dict[type[Exception], Callable[[Exception], Problem]] = {
        Problem: _itself,
        RequestValidationError: _invalid,
        DatabaseAwayError: _database_away,
        FilterTooBroadError: lambda error: problems.FilterTooBroad(str(error)),
        InvalidCursorError: lambda error: problems.InvalidCursor(str(error), [("cursor", str(error))]),
    }
    for kind, translate in handlers.items():
        app.add_exception_handler(kind, _handler(translate))
    app.add_exception_handler(HTTPException, _unmatched)
    app.add_exception_handler(ClientDisconnect, _gone)
    app.add_exception_handler(Exception, _handler(_fault))


def _handler(
    translate: Callable[[Exception], Problem],
) -> Callable[[Request, Exception], Awaitable[Response]]:
    async def handle(_: Request, error: Exception) -> Response:
        return translate(error).response()

    return handle


def _itself(error: Exception) -> Problem:
    if not isinstance(error, Problem):
        raise error
    return error


def _invalid(error: Exception) -> Problem:
    if not isinstance(error, RequestValidationError):
        raise error
    fields = [(".".join(map(str, each["loc"][1:])), str(each["msg"])) for each in error.errors()[:20]]
    return problems.InvalidRequest("; ".join(f"{field}: {words}" for field, words in fields), fields)


def _fault(error: Exception) -> Problem:
    return problems.InternalError(f"{type(error).__name__}; the service's log has the rest")


def _database_away(error: Exception) -> Problem:
    log.warning("database.away", error=str(error))
    return problems.DatabaseUnavailable(
        "the read side does not answer; submitting goes on, ask again in a moment"
    )


async def _unmatched(request: Request, error: Exception) -> Response:
    """No route, or not with this method. The framework raises nothing else of this kind here."""
    if not isinstance(error, HTTPException):
        raise error
    kind = _UNMATCHED.get(error.status_code)
    if kind is None:
        raise error
    response = kind(f"{request.method} {request.url.path} is not part of this API; see /docs").response()
    response.headers.update(error.headers or {})
    return response


async def _gone(_: Request, __: Exception) -> Response:
    return Response(status_code=CALLER_GONE)
