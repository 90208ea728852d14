"""Looking whether this machine can run consuma, and whether what runs is as it should be.

Looks only: nothing is started, fetched or changed.
"""

import asyncio
import json
import platform
import shutil
import subprocess
import sys
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

import httpx

from infra.local.artifacts import pinned
from infra.local.broker import java
from infra.local.distribution import KAFKA, NEEDED_BYTES, Distribution
from infra.local.endpoints import ENDPOINTS_NAME
from infra.local.errors import LocalError
from infra.local.ports import holder, is_free
from infra.local.preflight import DATA_BYTES
from infra.local.settings import LocalSettings
from shared.operations.registry import PluginError, load_registry

__all__ = ["Finding", "Level", "findings", "running_at"]

RUN_TIMEOUT_S: Final = 20
NETWORK_TIMEOUT_S: Final = 10.0


class Level(StrEnum):
    """How serious a finding is. Only a problem needs somebody."""

    OK = "ok"
    NOTE = "note"
    PROBLEM = "problem"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at; `advice` is what to do."""

    level: Level
    subject: str
    text: str
    advice: str = ""


def running_at(data_dir: Path) -> dict[str, object] | None:
    """What `endpoints.json` says, when the system that wrote it still runs."""
    try:
        found: dict[str, object] = json.loads((data_dir / ENDPOINTS_NAME).read_text())
    except (OSError, ValueError):
        return None
    return found if Path(f"/proc/{found.get('pid')}").exists() else None


def findings(settings: LocalSettings, *, running: bool) -> Iterator[Finding]:
    """One after the other, as they are found; `running` is whether the system of this directory runs."""
    distribution = Distribution.of(settings)
    yield _python()
    yield _platform()
    yield _java()
    yield _operations()
    missing = yield from _cache(distribution)
    if missing:
        yield asyncio.run(_network(settings))
    yield _disk("cache's disk", distribution.cache, NEEDED_BYTES if missing else 0, "CONSUMA_CACHE_DIR")
    yield _disk("data's disk", settings.data_dir.expanduser().absolute(), DATA_BYTES, "--data-dir")
    if running:
        yield Finding(Level.OK, "ports", f"held by the system that runs on {settings.data_dir}")
        return
    yield _port(settings.listen_port, "API", "--port")
    if not settings.kafka:
        yield _port(settings.kafka_port, "Kafka", "--kafka-port")
    if not settings.mysql.get_secret_value():
        yield _port(settings.mysql_port, "database", "--mysql-port")


def _python() -> Finding:
    """The installation has refused any that is too old."""
    return Finding(Level.OK, "Python", f"{platform.python_version()} at {sys.executable}")


def _platform() -> Finding:
    name = f"{platform.system()} {platform.machine()}"
    if sys.platform != "linux":
        advice = "run the services singly against a broker and a database of yours, or use Linux"
        return Finding(Level.PROBLEM, "platform", f"{name}: `consuma up` needs Linux", advice)
    if platform.machine() != "x86_64":
        advice = "give a database with --mysql"
        return Finding(Level.NOTE, "platform", f"{name}: no embedded database is published for it", advice)
    return Finding(Level.OK, "platform", name)


def _java() -> Finding:
    try:
        done = _run([java(), "-version"])
    except (LocalError, OSError, subprocess.SubprocessError) as error:
        return Finding(Level.PROBLEM, "Java", str(error), "give a broker with --kafka")
    said = (done.stderr or done.stdout).strip()
    if done.returncode:
        return Finding(Level.PROBLEM, "Java", said, "run `make setup` again, or give a broker with --kafka")
    return Finding(Level.OK, "Java", said.splitlines()[0])


def _operations() -> Finding:
    """Every compute process loads them, and none starts with one that cannot be."""
    try:
        names = [each.name for each in load_registry().all()]
    except PluginError as error:
        return Finding(Level.PROBLEM, "operations", str(error), "mend or uninstall that package")
    return Finding(Level.OK, "operations", ", ".join(names))


def _cache(distribution: Distribution) -> Generator[Finding, None, bool]:
    """Returns whether something has to be fetched."""
    jars = distribution.missing_jars()
    count = len(pinned(KAFKA))
    advice = "nothing: the next `consuma up` fetches what is missing"
    if jars:
        text = f"{len(jars)} of {count} jars are missing or broken in {distribution.jars}"
        yield Finding(Level.NOTE, "Kafka's files", text, advice)
    else:
        yield Finding(Level.OK, "Kafka's files", f"{count} jars, each as pinned, in {distribution.jars}")
    if not distribution.has_mariadb():
        text = f"missing or incomplete in {distribution.mariadb}"
        yield Finding(Level.NOTE, "database's files", text, advice)
        return True
    yield _mariadb(distribution)
    return bool(jars)


def _mariadb(distribution: Distribution) -> Finding:
    """A missing system library shows only when the program is run."""
    try:
        done = _run([str(distribution.mariadb / "bin/mariadbd"), "--no-defaults", "--version"])
    except (OSError, subprocess.SubprocessError) as error:
        return Finding(Level.PROBLEM, "database's files", str(error), f"delete {distribution.mariadb}")
    if done.returncode:
        advice = "install that library, or give a database with --mysql"
        return Finding(Level.PROBLEM, "database's files", done.stderr.strip(), advice)
    return Finding(Level.OK, "database's files", f"{done.stdout.split()[2]} in {distribution.mariadb}")


async def _network(settings: LocalSettings) -> Finding:
    url = settings.maven_url
    try:
        async with httpx.AsyncClient(timeout=NETWORK_TIMEOUT_S, follow_redirects=True) as client:
            response = await client.head(f"{url}/{pinned(KAFKA)[0].path}")
            response.raise_for_status()
    except httpx.HTTPError as error:
        advice = "check the network and HTTPS_PROXY, or set CONSUMA_MAVEN_URL to a mirror"
        return Finding(Level.PROBLEM, "repository", f"{url}: {str(error) or type(error).__name__}", advice)
    return Finding(Level.OK, "repository", f"{url} answers")


def _disk(subject: str, path: Path, needed: int, option: str) -> Finding:
    existing = next(each for each in (path, *path.parents) if each.exists())
    free = shutil.disk_usage(existing).free
    if free < needed:
        advice = f"make room, or choose a directory on another disk with {option}"
        return Finding(Level.PROBLEM, subject, f"{path} has {free >> 20} MiB free of {needed >> 20}", advice)
    return Finding(Level.OK, subject, f"{free >> 30} GiB free for {path}")


def _port(port: int, what: str, option: str) -> Finding:
    subject = f"{what}'s port"
    if not port or is_free(port):
        return Finding(Level.OK, subject, f"{port or 'any'} is free")
    text = f"{port} is taken by {holder(port)}"
    return Finding(Level.PROBLEM, subject, text, f"end that, or choose another with {option}")


def _run(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: S603 - our own commands
        command, check=False, capture_output=True, text=True, timeout=RUN_TIMEOUT_S
    )
