"""What the commands that call the HTTP API share: the calls, errors in words, and exit codes.

Data goes to standard output, everything else to standard error. Exit codes: 0 done; 1 the API does not answer
or cannot do it now; 2 it refuses what was asked; 3 it was done, and the request failed; 4 the request has not
finished within the wait; 130 interrupted.
"""

import json
import sys
from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, Never

import httpx
from cyclopts import Parameter
from rich.console import Console

__all__ = [
    "DEFAULT_URL",
    "FAILED",
    "PENDING",
    "REFUSED",
    "Api",
    "Output",
    "Url",
    "as_table",
    "console",
    "fail",
    "print_json",
]

UNAVAILABLE: Final = 1
REFUSED: Final = 2
FAILED: Final = 3
PENDING: Final = 4
INTERRUPTED: Final = 130
DEFAULT_URL: Final = "http://127.0.0.1:8000"
CONNECT_TIMEOUT_S: Final = 5.0
ANSWER_TIMEOUT_S: Final = 15.0
"""Beyond what the call itself may wait for."""

Url = Annotated[str, Parameter(help="Where the API is.", env_var="CONSUMA_URL")]
Output = Annotated[
    Literal["table", "json"] | None,
    Parameter(name=("--output", "-o"), help="Shape of the output: a table on a terminal, else JSON."),
]


class Api:
    """One command's calls; each ends the process, with words and an exit code, when it fails."""

    def __init__(self, command: str, url: str) -> None:
        self._command = command
        self._url = url.rstrip("/")

    def get(self, path: str, *, wait_s: float = 0.0, **query: str | float) -> Any:  # noqa: ANN401 - JSON
        """The answer to a GET."""
        return self._call("GET", path, wait_s=wait_s, params=query)[1]

    def delete(self, path: str) -> Any:  # noqa: ANN401 - JSON
        """The answer to a DELETE."""
        return self._call("DELETE", path, wait_s=0.0)[1]

    def post(
        self, path: str, body: bytes, *, wait_s: float, headers: Mapping[str, str]
    ) -> tuple[int, dict[str, Any]]:
        """Status and answer of a POST of JSON."""
        headers = {"Content-Type": "application/json", **headers}
        return self._call("POST", path, wait_s=wait_s, content=body, headers=headers)

    def _call(self, method: str, path: str, *, wait_s: float, **more: Any) -> tuple[int, Any]:  # noqa: ANN401
        timeout = httpx.Timeout(wait_s + ANSWER_TIMEOUT_S, connect=CONNECT_TIMEOUT_S)
        try:
            response = httpx.request(method, self._url + path, timeout=timeout, trust_env=False, **more)
        except (httpx.TransportError, httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
            fail(
                self._command,
                f"no answer from {self._url} ({error}): is it running? see --url and CONSUMA_URL",
                UNAVAILABLE,
            )
        except KeyboardInterrupt:
            fail(self._command, "interrupted; what was accepted goes on", INTERRUPTED)
        if not response.is_success:
            self._explain(response)
        return response.status_code, self._json(response)

    def _explain(self, response: httpx.Response) -> Never:
        """A problem document, in words."""
        code = REFUSED if response.is_client_error else UNAVAILABLE
        if response.headers.get("content-type") != "application/problem+json":
            fail(self._command, f"{self._url} answered {response.status_code}: is it consuma's API?", code)
        problem = self._json(response)
        lines = [f"{problem['detail']} ({problem['code']})"]
        if "retry-after" in response.headers:
            lines.append(f"  try again in {response.headers['retry-after']} s")
        fail(self._command, "\n".join(lines), code)

    def _json(self, response: httpx.Response) -> Any:  # noqa: ANN401 - JSON
        try:
            return response.json()
        except ValueError:
            fail(self._command, f"{self._url} answered no JSON: is it consuma's API?", UNAVAILABLE)


def as_table(output: Literal["table", "json"] | None) -> bool:
    """Whether a person is to read the output."""
    return output == "table" or (output is None and sys.stdout.isatty())


def print_json(value: object) -> None:
    """`value` on standard output; indented where a person may look at it."""
    print(json.dumps(value, ensure_ascii=False, indent=2 if sys.stdout.isatty() else None))


def console() -> Console:
    """Standard output for tables; as wide as they need to be where nobody looks."""
    return Console() if sys.stdout.isatty() else Console(width=160)


def fail(command: str, problem: str, code: int) -> Never:
    """End the process with words on standard error."""
    print(f"consuma {command}: {problem}", file=sys.stderr)
    raise SystemExit(code)
