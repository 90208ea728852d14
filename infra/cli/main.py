"""The `consuma` command: subcommands by name, each imported when it is called.

To add one, name it in `COMMANDS`: a function or an `App` of a module, and a line of help.
"""

import os
import sys
from importlib.metadata import version
from typing import TYPE_CHECKING, Final

from cyclopts import App

if TYPE_CHECKING:
    from pydantic import ValidationError

__all__ = ["app", "main"]

COMMANDS: Final = (
    ("up", "infra.cli.up:up", "Run everything on this machine: broker, database and every service."),
    ("doctor", "infra.cli.doctor:doctor", "See what is as it should be here, and what to do about the rest."),
    ("ingest", "infra.cli.services:ingest", "Run one process of the HTTP API."),
    ("compute", "infra.cli.services:compute", "Run one process that computes requests."),
    ("callback", "infra.cli.services:callback", "Run one process that makes callbacks."),
    (
        "projector",
        "infra.cli.projector:projector",
        "Project the log into the tables, or see how far that is.",
    ),
    (
        "destinations",
        "infra.cli.destinations:destinations",
        "See and change which destinations get no callbacks.",
    ),
    ("receiver", "infra.cli.receiver:receiver", "Receive callbacks, to try things out; misbehave if told."),
    ("submit", "infra.cli.submit:submit", "Submit a request: sync waits for its outcome, async does not."),
    ("get", "infra.cli.get:get", "Show what became of a request."),
    ("list", "infra.cli.listing:list_", "List requests, the newest first, by mode and status."),
    ("stats", "infra.cli.listing:stats", "Count requests by mode, status and what became of callbacks."),
    ("cancel", "infra.cli.listing:cancel", "Stop a request that waits or runs."),
    ("operations", "infra.cli.operations:operations", "List the operations, show one, or begin a new one."),
    ("topics", "infra.cli.topics:topics", "Create, configure and look at the topics."),
    ("migrate", "infra.cli.migrate:migrate", "Bring the database to this release's schema."),
)
USAGE_ERROR: Final = 2
PIPE_CLOSED: Final = 141
"""As the shell reports a process that SIGPIPE ended."""


def _version() -> str:
    return version("consuma")


app = App(name="consuma", help="Event-sourced request processing on Kafka.", version=_version)
for _name, _target, _help in COMMANDS:
    app.command(_target, name=_name, help=_help)


def main() -> None:
    """Run the command line; the process ends with the command's exit code."""
    try:
        app()
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever reads has had enough. What is still buffered must not fail once more at the exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(PIPE_CLOSED) from None
    except ValueError as error:
        from pydantic import ValidationError

        if not isinstance(error, ValidationError):
            raise
        _explain(error)
        raise SystemExit(USAGE_ERROR) from None


def _explain(error: "ValidationError") -> None:
    """Settings that are not valid, by the names that they have in the environment."""
    for each in error.errors():
        name = "_".join(["CONSUMA", *(str(part).upper() for part in each["loc"][:1])])
        print(f"consuma: {name}: {each['msg']}", file=sys.stderr)
