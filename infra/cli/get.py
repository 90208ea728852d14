"""`consuma get`: what became of a request."""

import sys
from typing import Annotated

from cyclopts import Parameter

from infra.cli.api import DEFAULT_URL, PENDING, Api, Output, Url, as_table, print_json
from infra.cli.request_view import print_request

__all__ = ["get"]


def get(
    request_id: Annotated[str, Parameter(help="Id of the request.")],
    /,
    *,
    wait: Annotated[float, Parameter(help="Seconds to wait for the outcome.")] = 0.0,
    url: Url = DEFAULT_URL,
    output: Output = None,
) -> int:
    """Show one request: what was asked, what came of it, and every step.

    With --wait, the exit code is 4 when it has not finished by then.
    """
    query = {"wait": wait} if wait > 0 else {}
    answer = Api("get", url).get(f"/v1/requests/{request_id}", wait_s=wait, **query)
    if as_table(output):
        print_request(answer)
    else:
        print_json(answer)
    if wait > 0 and answer["finished_at"] is None:
        print("not finished yet", file=sys.stderr)
        return PENDING
    return 0
