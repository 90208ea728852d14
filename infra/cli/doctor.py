"""`consuma doctor`: what is as it should be on this machine, and what is not."""

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter
from rich.console import Console
from rich.text import Text

from infra.local.doctor import Finding, Level, findings, running_at
from infra.local.settings import LocalSettings

__all__ = ["doctor"]

STYLES = {Level.OK: "green", Level.NOTE: "yellow", Level.PROBLEM: "bold red"}


def doctor(
    *,
    data_dir: Annotated[Path | None, Parameter(help="Data directory of the system to look at.")] = None,
) -> int:
    """Look whether everything can run here, and whether what runs is well; changes nothing.

    Exits with 1 when there is a problem. A note needs nobody.
    """
    given: dict[str, Any] = {} if data_dir is None else {"data_dir": data_dir}
    console = Console(highlight=False, soft_wrap=True)
    problems = 0
    for each in _all_findings(LocalSettings(**given)):
        _print(console, each)
        problems += each.level is Level.PROBLEM
    console.print(f"problems: {problems or 'none'}")
    return 1 if problems else 0


def _all_findings(settings: LocalSettings) -> Iterator[Finding]:
    running = running_at(settings.data_dir.expanduser().absolute())
    yield from findings(settings, running=running is not None)
    from infra.local.doctor_stores import database_findings, log_findings
    from shared.settings import DatabaseSettings, KafkaSettings

    kafka, mysql = KafkaSettings(), DatabaseSettings().mysql.get_secret_value()
    if running is not None:
        kafka = kafka.model_copy(update={"kafka": str(running["kafka"])})
        mysql = str(running["mysql"])
    expected = running is not None
    yield from asyncio.run(log_findings(kafka, expected=expected or "CONSUMA_KAFKA" in os.environ))
    yield from database_findings(mysql, expected=expected or "CONSUMA_MYSQL" in os.environ)


def _print(console: Console, finding: Finding) -> None:
    line = Text.assemble(
        (f"{finding.level:<8}", STYLES[finding.level]), f"{finding.subject:<17} ", finding.text
    )
    console.print(line)
    if finding.advice:
        console.print(Text(f"{'':<26}→ {finding.advice}"))
