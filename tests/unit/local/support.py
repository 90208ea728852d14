"""Parts that are a line of Python, and a reporter that remembers."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from infra.local.keeper import Keeper
from infra.local.logfile import LogFile
from infra.local.parts import Launch
from infra.local.reporting import SilentReporter


class Memory(SilentReporter):
    """Remembers what was said."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.warned: list[str] = []
        self.expected = self.got = 0

    def say(self, text: str) -> None:
        self.said.append(text)

    def warn(self, text: str) -> None:
        self.warned.append(text)

    def expect_bytes(self, count: int) -> None:
        self.expected += count

    def got_bytes(self, count: int) -> None:
        self.got += count


@dataclass
class ScriptPart:
    """Runs `script`; it works once the script has made the file `flag`, whose path is its first argument."""

    script: str
    directory: Path
    name: str = "script-0"
    stop_s: float = 5.0
    death_signal: signal.Signals = signal.SIGKILL
    launches: int = field(default=0)

    @property
    def flag(self) -> Path:
        return self.directory / f"flag-{self.launches}"

    def launch(self) -> Launch:
        self.launches += 1
        flag = self.flag

        async def works() -> bool:
            return flag.exists()

        return Launch([sys.executable, "-I", "-S", "-c", self.script, str(flag)], works, url=str(flag))


SERVE = "import sys, pathlib, time; pathlib.Path(sys.argv[1]).touch(); time.sleep(600)"
"""Works until it is ended."""


def keeper_of(part: ScriptPart, reporter: Memory | None = None) -> Keeper:
    """A keeper that has not begun."""
    log = LogFile(part.directory / f"{part.name}.log", 100_000)
    return Keeper(part, data_dir=part.directory, log=log, reporter=reporter or Memory(), changed=lambda: None)


@asynccontextmanager
async def keeping(part: ScriptPart, reporter: Memory | None = None) -> AsyncIterator[Keeper]:
    """The part's keeper at work."""
    keeper = keeper_of(part, reporter)
    task = asyncio.create_task(keeper.run())
    try:
        yield keeper
    finally:
        keeper.stop()
        await task


def exists(pid: int) -> bool:
    """Whether a process runs; one that is dead but not yet reaped does not."""
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False
