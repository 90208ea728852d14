"""`consuma list`, `stats` and `cancel`: what became of requests, by mode and status, and ending one."""

from typing import Annotated, Any, Final, Literal

from cyclopts import Parameter
from rich.table import Table

from infra.cli.api import DEFAULT_URL, Api, Output, Url, as_table, console, print_json

__all__ = ["cancel", "list_", "stats"]

COLUMNS: Final = (
    "id",
    "mode",
    "status",
    "callback_status",
    "operation",
    "source",
    "accepted_at",
    "error_code",
)


def list_(
    *,
    mode: Annotated[Literal["sync", "async"] | None, Parameter(help="Only these.")] = None,
    status: Annotated[str | None, Parameter(help="accepted, running, succeeded or failed.")] = None,
    callback_status: Annotated[str | None, Parameter(help="Such as pending, delivered or failed.")] = None,
    operation: Annotated[str | None, Parameter(help="Only requests for this one.")] = None,
    source: Annotated[str | None, Parameter(help="Only this submitter's; `rest` is the API's.")] = None,
    limit: Annotated[int, Parameter(help="At most so many.")] = 20,
    url: Url = DEFAULT_URL,
    output: Output = None,
) -> None:
    """List requests, the newest first."""
    filters: dict[str, str | None] = {
        "mode": mode,
        "status": status,
        "callback_status": callback_status,
        "operation": operation,
        "source": source,
        "limit": str(limit),
    }
    given: dict[str, Any] = {name: value for name, value in filters.items() if value is not None}
    items = Api("list", url).get("/v1/requests", **given)["items"]
    _print(items, COLUMNS, output)


def stats(
    *,
    window: Annotated[str, Parameter(help="Of the requests accepted in the last 15m, 24h, 7d, …")] = "24h",
    url: Url = DEFAULT_URL,
    output: Output = None,
) -> None:
    """Count requests by mode, status and what became of their callbacks."""
    found = Api("stats", url).get("/v1/stats", window=window)
    _print(found["items"], ("mode", "status", "callback_status", "count"), output)


def cancel(
    request_id: Annotated[str, Parameter(help="Id of the request.")],
    /,
    *,
    url: Url = DEFAULT_URL,
) -> None:
    """Stop a request that waits or runs; it ends as failed, with the code `cancelled`."""
    print_json(Api("cancel", url).delete(f"/v1/requests/{request_id}"))


def _print(items: list[dict[str, Any]], columns: tuple[str, ...], output: Output) -> None:
    if not as_table(output):
        print_json(items)
        return
    table = Table(*columns)
    for each in items:
        table.add_row(*("" if each[name] is None else str(each[name]) for name in columns))
    console().print(table, markup=False)
