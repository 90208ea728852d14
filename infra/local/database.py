"""One MariaDB server for the read side."""

import asyncio
import os
import shutil
import signal
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pymysql

from infra.local.child import run_to_end
from infra.local.distribution import Distribution
from infra.local.errors import LocalError
from infra.local.logfile import complaint
from infra.local.parts import Launch, environment

__all__ = ["MariaNode"]

PROBE_TIMEOUT_S: Final = 2
OPTIONS: Final = (
    "--bind-address=127.0.0.1",
    "--skip-name-resolve",
    "--max-connections=400",
    "--max-connect-errors=1000000",
    "--max-allowed-packet=64M",
    "--character-set-server=utf8mb4",
    "--performance-schema=OFF",
    "--skip-ssl",  # it would make a key of its own at every start, for as long as 20 s
)


@dataclass(frozen=True, slots=True, kw_only=True)
class MariaNode:
    """A server with its data below `data_dir`; root has no password, only this machine reaches it.

    With `durable` False it does not wait for the disk: for data that nobody misses after a power cut.
    """

    distribution: Distribution
    data_dir: Path
    port: int
    durable: bool = True
    name: str = "mariadb"
    stop_s: float = 20.0
    death_signal: signal.Signals = signal.SIGTERM

    @property
    def directory(self) -> Path:
        """Of everything that is the server's."""
        return self.data_dir / "mariadb"

    @property
    def server_url(self) -> str:
        """SQLAlchemy's URL of the server, without a database."""
        return f"mysql+aiomysql://root@127.0.0.1:{self.port}/"

    async def prepare(self) -> None:
        """Make the directories, and install the system tables, once.

        Raises:
            LocalError: that failed.
        """
        self._temporary.mkdir(parents=True, exist_ok=True)
        if self._data.exists():
            return
        new, log = self.directory / "data.new", self.directory / "install.log"
        shutil.rmtree(new, ignore_errors=True)
        script = self.distribution.mariadb / "scripts/mariadb-install-db"
        command = [str(script), "--no-defaults", self._base, f"--datadir={new}", "--skip-test-db"]
        command += ["--auth-root-authentication-method=normal", *_as_root()]
        if await run_to_end(command, environment=environment(self.data_dir, self._own_tmpdir), log=log):
            raise LocalError(
                f"the database could not be created in {self.directory}: {complaint(log, first=True)} ({log})"
            )
        os.replace(new, self._data)

    def launch(self) -> Launch:
        """Serves when it answers a query."""
        # The socket's path is relative to the data directory: an absolute one may be longer than is allowed.
        command = [str(self.distribution.mariadb / "bin/mariadbd"), "--no-defaults", self._base, *OPTIONS]
        command += [f"--datadir={self._data}", f"--port={self.port}", "--socket=mariadb.sock", *_as_root()]
        command += [f"--lc-messages-dir={self.distribution.mariadb}/share"]
        if not self.durable:
            command += ["--innodb-flush-log-at-trx-commit=0", "--innodb-doublewrite=OFF"]
        return Launch(command, self._works, environment=self._own_tmpdir)

    async def _works(self) -> bool:
        return await asyncio.to_thread(_answers, self.port)

    @property
    def _base(self) -> str:
        return f"--basedir={self.distribution.mariadb}"

    @property
    def _temporary(self) -> Path:
        return self.directory / "tmp"

    @property
    def _own_tmpdir(self) -> dict[str, str]:
        """A server that starts deletes the temporary tables that it finds, be they another server's."""
        return {"TMPDIR": str(self._temporary)}

    @property
    def _data(self) -> Path:
        return self.directory / "data"


def _as_root() -> list[str]:
    """The server refuses to run as root unless told to."""
    return ["--user=root"] if os.geteuid() == 0 else []


def _answers(port: int) -> bool:
    with suppress(pymysql.err.MySQLError, OSError):
        connection = pymysql.connect(
            host="127.0.0.1", port=port, user="root", connect_timeout=PROBE_TIMEOUT_S, read_timeout=2
        )
        with connection:
            return True
    return False
