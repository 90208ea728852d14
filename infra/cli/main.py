"""The `consuma` command: subcommands by name, each imported when it is called.

To add one, name it in `COMMANDS`: a function or an `App` of a module, and a line of help.
"""

from typing import Final

from cyclopts import App

__all__ = ["app", "main"]

COMMANDS: Final = (
    ("up", "infra.cli.up:up", "Run everything on this machine."),
    ("topics", "infra.cli.topics:topics", "Create, configure and look at the topics."),
    ("migrate", "infra.cli.migrate:migrate", "Bring the database to this release's schema."),
    ("projector", "infra.cli.projector:projector", "Project the log into the tables, or see how far."),
)

app = App(name="consuma", help="Event-sourced request processing on Kafka.")
for _name, _target, _help in COMMANDS:
    app.command(_target, name=_name, help=_help)


def main() -> None:
    """Run the command line; the process ends with the command's exit code."""
    app()
