"""`consuma get`: what became of a request."""

from typing import Annotated

from cyclopts import Parameter

from infra.cli.api import DEFAULT_URL, Api, Output, Url, as_table, print_json
from infra.cli.request_view import print_request

__all__ = ["get"]


def get(
    request_id: Annotated[str, Parameter(help="Id of the request.")],
    /,
    *,
    wait: Annotated[float, Parameter(help="Seconds to wait for the outcome.")] = 0.0,
    url: Url = DEFAULT_URL,
    output: Output = None,
) -> None:
    """Show one request: what was asked, what came of it, and every step."""
    query = {"wait": wait} if wait > 0 else {}
    answer = Api("get", url).get(f"/v1/requests/{request_id}", wait_s=wait, **query)
    if as_table(output):
        print_request(answer)
    else:
        print_json(answer)
