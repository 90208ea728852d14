"""`consuma submit`: hand a request in over HTTP and see what comes of it."""

import json
import math
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final

from cyclopts import App, Parameter

from infra.cli.api import DEFAULT_URL, FAILED, PENDING, REFUSED, Api, Output, Url, as_table, fail, print_json
from infra.cli.request_view import print_request

__all__ = ["submit"]

DEFAULT_WAIT_S: Final = 30.0
ACCEPTED: Final = 202

Operation = Annotated[str, Parameter(help="Name of an operation; see `consuma operations`.")]
Input = Annotated[
    str,
    Parameter(
        help="Input as JSON; `@FILE` reads it from a file, `-` from standard input.",
        allow_leading_hyphen=True,
    ),
]
Reference = Annotated[str | None, Parameter(help="Your own name for the request.")]
Timeout = Annotated[float | None, Parameter(help="Longest running time of the operation, in seconds.")]
Key = Annotated[
    str | None, Parameter(name="--idempotency-key", help="Repeating with the same key is one request.")
]

submit = App(name="submit", help="Submit a request: sync waits for its outcome, async does not.")


@submit.command
def sync(
    operation: Operation,
    input_: Input = "{}",
    /,
    *,
    wait: Annotated[float, Parameter(help="Seconds to wait for the outcome.")] = DEFAULT_WAIT_S,
    timeout: Timeout = None,
    client_reference: Reference = None,
    idempotency_key: Key = None,
    url: Url = DEFAULT_URL,
    output: Output = None,
) -> int:
    """Compute OPERATION on INPUT and print the outcome.

    The exit code is 3 when the operation failed, and 4 when it has not finished within the wait.
    """
    body = _body(operation, input_, timeout=timeout, client_reference=client_reference)
    headers = {"Prefer": f"wait={math.ceil(wait)}", **_key(idempotency_key)}
    status, answer = Api("submit", url).post("/v1/requests/sync", body, wait_s=wait, headers=headers)
    return _show_awaited(answer, output) if status == ACCEPTED else _show(answer, output)


@submit.command(name="async")
def async_(
    operation: Operation,
    input_: Input = "{}",
    /,
    *,
    callback_url: Annotated[str | None, Parameter(help="Where the signed outcome is to be sent.")] = None,
    wait: Annotated[float, Parameter(help="Seconds to wait for the outcome all the same.")] = 0.0,
    timeout: Timeout = None,
    expires_at: Annotated[str | None, Parameter(help="Do not start it after this RFC 3339 time.")] = None,
    client_reference: Reference = None,
    idempotency_key: Key = None,
    url: Url = DEFAULT_URL,
    output: Output = None,
) -> int:
    """Hand OPERATION with INPUT in and print its id; with --wait, print what became of it."""
    body = _body(
        operation,
        input_,
        callback_url=callback_url,
        timeout=timeout,
        expires_at=expires_at,
        client_reference=client_reference,
    )
    api = Api("submit", url)
    _, answer = api.post("/v1/requests/async", body, wait_s=0.0, headers=_key(idempotency_key))
    if wait > 0:
        answer = api.get(f"/v1/requests/{answer['id']}", wait_s=wait, wait=wait)
        if answer["finished_at"] is None:
            return _show_awaited(answer, output)
    return _show(answer, output)


def _body(operation: str, input_: str, **fields: object) -> bytes:
    """The body, with the input as the very text that was given."""
    text = _read(input_)
    try:
        json.loads(text)
    except ValueError as error:
        fail("submit", f"the input is not JSON: {error}", REFUSED)
    given = {name: value for name, value in fields.items() if value is not None}
    head = json.dumps({"operation": operation, **given})
    return f'{head[:-1]}, "input": {text}}}'.encode()


def _read(input_: str) -> str:
    try:
        if input_ == "-":
            return sys.stdin.read()
        return Path(input_[1:]).read_text(encoding="utf-8") if input_.startswith("@") else input_
    except (OSError, UnicodeDecodeError) as error:
        fail("submit", f"the input cannot be read: {error}", REFUSED)


def _key(key: str | None) -> Mapping[str, str]:
    return {} if key is None else {"Idempotency-Key": key}


def _show_awaited(answer: dict[str, Any], output: Output) -> int:
    """Show what was waited for in vain."""
    _show(answer, output)
    print(f"not finished yet; see: consuma get {answer['id']} --wait 60", file=sys.stderr)
    return PENDING


def _show(answer: dict[str, Any], output: Output) -> int:
    if as_table(output):
        print_request(answer)
    else:
        print_json(answer)
    return FAILED if answer["status"] == "failed" else 0
