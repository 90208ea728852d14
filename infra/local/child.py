"""A process of the local system: in a group of its own, dying with its parent, signalled without a race.

Until it has been buried its pid and its group's number cannot pass to another process; afterwards neither is
used again.
"""

import asyncio
import os
import select
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final, Self

__all__ = ["Child", "run_to_end"]

GUARD: Final = str(Path(__file__).with_name("guard.py"))


class Child:
    """A running or dead process that nobody else waits for."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self._pidfd = os.pidfd_open(process.pid)
        self.pid = process.pid

    @classmethod
    def start(
        cls,
        command: Sequence[str],
        *,
        environment: Mapping[str, str],
        log: Path,
        death_signal: signal.Signals,
    ) -> Self:
        """Start `command`, what it says appended to `log`.

        The kernel sends it `death_signal` when the calling thread has ended.
        """
        guarded = [sys.executable, "-I", "-S", GUARD, str(int(death_signal)), str(os.getpid()), *command]
        with log.open("ab") as output:
            return cls(
                subprocess.Popen(  # noqa: S603 - our own commands
                    guarded,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    env=environment,
                    start_new_session=True,
                )
            )

    def signal(self, number: signal.Signals) -> None:
        """Signal the process alone; a dead one does not mind."""
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._pidfd, number)

    def kill(self) -> None:
        """SIGKILL the process and all of its group."""
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)

    async def ended(self) -> int:
        """Wait until the process has ended, and bury it. For one caller, once."""
        loop = asyncio.get_running_loop()
        dead = loop.create_future()
        loop.add_reader(self._pidfd, lambda: None if dead.done() else dead.set_result(None))
        try:
            await dead
        finally:
            loop.remove_reader(self._pidfd)
        return self.bury()

    def end(self, timeout_s: float) -> int:
        """SIGTERM it, SIGKILL what has not ended after `timeout_s`, and bury it. Blocks."""
        self.signal(signal.SIGTERM)
        poll = select.poll()
        poll.register(self._pidfd, select.POLLIN)
        poll.poll(timeout_s * 1000)
        return self.bury()

    def bury(self) -> int:
        """Kill what is left of the group while the unreaped leader still reserves its number."""
        self.kill()
        code = self._process.wait()
        os.close(self._pidfd)
        return code


async def run_to_end(command: Sequence[str], *, environment: Mapping[str, str], log: Path) -> int:
    """Run `command` as a child that dies with this thread; its exit code. Cancelled, it kills the command."""
    child = Child.start(command, environment=environment, log=log, death_signal=signal.SIGKILL)
    ended = asyncio.create_task(child.ended())
    try:
        return await asyncio.shield(ended)
    finally:
        if not ended.done():
            child.kill()
            await asyncio.wait([ended])
