"""The broker's and the database's programs in the per-user cache.

Every start looks whether they are whole: the jars by their digests, the unpacked database by the sizes it
was unpacked with. What is not whole is fetched again. One process fetches at a time; the others wait for it.
"""

import asyncio
import fcntl
import json
import os
import shutil
import zipfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from infra.local.artifacts import Artifact, pinned
from infra.local.errors import LocalError
from infra.local.fetching import Fetcher
from infra.local.reporting import Reporter
from infra.local.settings import LocalSettings

__all__ = ["KAFKA", "MARIADB", "Distribution"]

KAFKA: Final = "kafka"
MARIADB: Final = "mariadb"
MANIFEST: Final = "manifest.json"
ARCHIVE_ROOT: Final = "linux/"
KEPT: Final = (
    "bin/mariadb",
    "bin/mariadbd",
    "bin/my_print_defaults",
    "bin/resolveip",
    "scripts/mariadb-install-db",
    "share/charsets/",
    "share/english/",
)
"""And the SQL files right in `share/`: what installing, running and asking a server needs, of 366 MB."""

NEEDED_BYTES: Final = 800 * 1024 * 1024
LOCK_POLL_S: Final = 0.2


@dataclass(frozen=True, slots=True)
class Distribution:
    """Where the programs lie, or are going to."""

    cache: Path

    @classmethod
    def of(cls, settings: LocalSettings) -> "Distribution":
        """The one in the cache of `settings`."""
        return cls(settings.cache_dir.expanduser().absolute())

    @property
    def jars(self) -> Path:
        """A directory laid out like a repository."""
        return self.cache / "jars"

    @property
    def class_path(self) -> str:
        """The broker's jars, always in the same order."""
        return ":".join(str(self.jars / each.path) for each in pinned(KAFKA))

    @property
    def mariadb(self) -> Path:
        """The base directory of the database."""
        [archive] = pinned(MARIADB)
        return self.cache / f"mariadb-{archive.version}-{archive.sha256[:8]}"

    def missing_jars(self) -> list[Artifact]:
        """The broker's jars that are absent or not what is pinned. Reads them all: 45 MB."""
        return [each for each in pinned(KAFKA) if not each.is_intact(self.jars / each.path)]

    def has_mariadb(self) -> bool:
        """Whether all that was unpacked is there in its size."""
        try:
            sizes: dict[str, int] = json.loads((self.mariadb / MANIFEST).read_text())
            return all((self.mariadb / name).stat().st_size == size for name, size in sizes.items())
        except (OSError, ValueError):
            return False

    async def ensure(
        self, settings: LocalSettings, reporter: Reporter, *, kafka: bool, mariadb: bool
    ) -> None:
        """Have what is asked for in the cache.

        Raises:
            LocalError: it cannot be fetched or stored.
        """
        jars = await asyncio.to_thread(self.missing_jars) if kafka else []
        if not jars and (not mariadb or self.has_mariadb()):
            return
        async with self._locked(reporter):
            await self._fetch(settings, reporter, kafka=kafka, mariadb=mariadb)

    async def _fetch(
        self, settings: LocalSettings, reporter: Reporter, *, kafka: bool, mariadb: bool
    ) -> None:
        """Look again, now alone, and fetch what is still missing."""
        wanted = await asyncio.to_thread(self.missing_jars) if kafka else []
        unpack = mariadb and not self.has_mariadb()
        if unpack:
            wanted += [each for each in pinned(MARIADB) if not each.is_intact(self.jars / each.path)]
        if wanted:
            self._require_room()
            names = " and ".join(_title(part) for part in sorted({each.part for each in wanted}))
            size = sum(each.size for each in wanted)
            reporter.say(f"fetching {names} once, {size / 2**20:.1f} MiB, into {self.cache}")
            await Fetcher(settings.maven_url, self.jars, reporter).fetch(wanted)
        if unpack:
            await asyncio.to_thread(self._unpack_mariadb)

    def _require_room(self) -> None:
        free = shutil.disk_usage(self.cache).free
        if free < NEEDED_BYTES:
            raise LocalError(
                f"{self.cache} has {free >> 20} MiB free, fetching needs {NEEDED_BYTES >> 20}: make room, "
                "or set CONSUMA_CACHE_DIR to a directory on another disk"
            )

    def _unpack_mariadb(self) -> None:
        """Unpack beside the final place, and move there when all is written."""
        [archive] = pinned(MARIADB)
        source = self.jars / archive.path
        new = self.mariadb.with_name(self.mariadb.name + ".new")
        shutil.rmtree(new, ignore_errors=True)
        try:
            sizes = _unpack(source, new)
            (new / MANIFEST).write_text(json.dumps(sizes, indent=1))
            shutil.rmtree(self.mariadb, ignore_errors=True)
            os.replace(new, self.mariadb)
            source.unlink()
        except OSError as error:
            raise LocalError(
                f"the database could not be unpacked into {self.cache} ({error}): make room, or set "
                "CONSUMA_CACHE_DIR to a directory on another disk"
            ) from error

    @asynccontextmanager
    async def _locked(self, reporter: Reporter) -> AsyncIterator[None]:
        """Alone among the processes that use this cache; the lock ends with its holder."""
        try:
            self.cache.mkdir(parents=True, exist_ok=True)
            lock = (self.cache / "lock").open("w")
        except OSError as error:
            raise LocalError(
                f"the cache {self.cache} cannot be written ({error}): set CONSUMA_CACHE_DIR to a directory "
                "of yours"
            ) from error
        with lock:
            told = False
            while not _try_lock(lock.fileno()):
                if not told:
                    reporter.say(f"another process is fetching into {self.cache}; waiting for it")
                told = True
                await asyncio.sleep(LOCK_POLL_S)
            yield


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _unpack(source: Path, target: Path) -> dict[str, int]:
    """Unpack what is kept; the size of each file by its name."""
    sizes: dict[str, int] = {}
    with zipfile.ZipFile(source) as archive:
        for entry in archive.infolist():
            _, found, name = entry.filename.partition(ARCHIVE_ROOT)
            if not found or entry.is_dir() or not _is_kept(name):
                continue
            path = target / name
            path.parent.mkdir(parents=True, exist_ok=True)
            with archive.open(entry) as packed, path.open("wb") as file:
                shutil.copyfileobj(packed, file, 1024 * 1024)
            if name.startswith(("bin/", "scripts/")):
                path.chmod(0o755)
            sizes[name] = entry.file_size
    return sizes


def _is_kept(name: str) -> bool:
    is_sql = name.startswith("share/") and name.count("/") == 1 and name.endswith(".sql")
    return is_sql or name.startswith(KEPT[-2:]) or name in KEPT


def _title(part: str) -> str:
    first = pinned(part)
    main = next((each for each in first if each.name.startswith("kafka_")), first[0])
    return f"{'Kafka' if part == KAFKA else 'MariaDB'} {main.version}"
