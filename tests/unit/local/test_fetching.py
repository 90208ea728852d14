"""Downloads: verified, resumed, whole or not there."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.local.artifacts import Artifact, parse_lock, pinned
from infra.local.errors import LocalError
from infra.local.fetching import Fetcher
from tests.unit.local.repository import Repository, repository
from tests.unit.local.support import Memory

CONTENT = bytes(range(256)) * 4096


@pytest.fixture
def maven() -> Iterator[Repository]:
    with repository() as found:
        yield found


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("infra.local.fetching.backoff_s", lambda *_: iter([0.0] * 100))


async def fetch(maven: Repository, directory: Path, *artifacts: Artifact) -> Memory:
    reporter = Memory()
    await Fetcher(maven.url + "/", directory, reporter).fetch(artifacts)
    return reporter


def test_the_lock_file_is_complete() -> None:
    kafka, [database] = pinned("kafka"), pinned("mariadb")
    assert {each.name for each in kafka} >= {"kafka_2.13", "kafka-clients", "log4j-core", "log4j-slf4j-impl"}
    assert all(len(each.sha256) == 64 and each.size > 0 for each in (*kafka, database))
    assert parse_lock(f"# a comment\n\n{database.line()}\n") == (database,)


async def test_several_are_fetched_and_counted(maven: Repository, tmp_path: Path) -> None:
    artifacts = [maven.artifact(f"a{number}", CONTENT + bytes(number)) for number in range(9)]
    reporter = await fetch(maven, tmp_path, *artifacts)
    assert all(each.is_intact(tmp_path / each.path) for each in artifacts)
    assert reporter.got == reporter.expected == sum(each.size for each in artifacts)


async def test_a_broken_off_transfer_is_resumed(maven: Repository, tmp_path: Path) -> None:
    artifact = maven.artifact("a", CONTENT)
    maven.cut[f"/{artifact.path}"] = 2
    reporter = await fetch(maven, tmp_path, artifact)
    assert artifact.is_intact(tmp_path / artifact.path)
    half, quarter = len(CONTENT) // 2, len(CONTENT) // 4
    assert [each[1] for each in maven.asked] == ["", f"bytes={half}-", f"bytes={half + quarter}-"]
    assert reporter.got == artifact.size


async def test_an_earlier_run_is_resumed_even_where_ranges_are_unknown(
    maven: Repository, tmp_path: Path
) -> None:
    artifact = maven.artifact("a", CONTENT)
    maven.ranges = False
    partial = tmp_path / f"{artifact.path}.part"
    partial.parent.mkdir(parents=True)
    partial.write_bytes(CONTENT[:1000])
    reporter = await fetch(maven, tmp_path, artifact)
    assert artifact.is_intact(tmp_path / artifact.path)
    assert reporter.got == artifact.size


@pytest.mark.parametrize("left", [b"x" * 1000, CONTENT + b"x"], ids=["other bytes", "too long"])
async def test_a_broken_partial_file_heals(maven: Repository, tmp_path: Path, left: bytes) -> None:
    artifact = maven.artifact("a", CONTENT)
    partial = tmp_path / f"{artifact.path}.part"
    partial.parent.mkdir(parents=True)
    partial.write_bytes(left)
    await fetch(maven, tmp_path, artifact)
    assert artifact.is_intact(tmp_path / artifact.path)


async def test_what_is_not_pinned_is_never_put_in_place(maven: Repository, tmp_path: Path) -> None:
    artifact = maven.artifact("a", CONTENT)
    maven.files[f"/{artifact.path}"] = CONTENT[:-1] + b"!"
    with pytest.raises(LocalError, match="something on the way changes files"):
        await fetch(maven, tmp_path, artifact)
    assert list((tmp_path / artifact.path).parent.iterdir()) == []


async def test_endless_content_is_cut(maven: Repository, tmp_path: Path) -> None:
    artifact = maven.artifact("a", CONTENT)
    maven.files[f"/{artifact.path}"] = CONTENT * 20
    with pytest.raises(LocalError, match=f"instead of {len(CONTENT)}"):
        await fetch(maven, tmp_path, artifact)


async def test_an_absent_file_is_asked_for_once(maven: Repository, tmp_path: Path) -> None:
    artifact = maven.artifact("a", CONTENT)
    maven.files.clear()
    with pytest.raises(LocalError, match=r"404 Not Found\): the repository lacks or refuses it: set CONSUMA"):
        await fetch(maven, tmp_path, artifact)
    assert len(maven.asked) == 1


async def test_no_network_is_told_with_what_to_do(tmp_path: Path) -> None:
    with repository() as closed:
        artifact = closed.artifact("a", CONTENT)
    with pytest.raises(LocalError, match="check the network and HTTPS_PROXY"):
        await fetch(closed, tmp_path, artifact)


async def test_a_full_disk_is_told_with_what_to_do(maven: Repository, tmp_path: Path) -> None:
    artifact = maven.artifact("a", CONTENT)
    (tmp_path / "org").write_text("in the way of the directory")
    with pytest.raises(LocalError, match=r"could not be written.*CONSUMA_CACHE_DIR"):
        await fetch(maven, tmp_path, artifact)
