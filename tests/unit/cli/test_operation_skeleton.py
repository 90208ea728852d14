"""`consuma operations new` writes a package that works as it is."""

import os
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Final

import pytest

from infra.cli.operation_skeleton import SkeletonError, write_skeleton

LIST: Final = """
from shared.operations.registry import load_registry
print([each.name for each in load_registry().all()])
"""


def python(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Python with `folder` on its path, as an installed package would be."""
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    return subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


def test_its_tests_pass(tmp_path: Path) -> None:
    folder = write_skeleton("word_count", tmp_path)[0].parent
    done = python(folder, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:asyncio", "--rootdir=.")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 passed" in done.stdout


def test_the_registry_finds_it_once_it_is_installed(tmp_path: Path) -> None:
    folder = write_skeleton("word_count", tmp_path)[0].parent
    project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    (group, entries), *_ = project["entry-points"].items()
    metadata = folder / "consuma_operation_word_count-0.1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: 0.1.0\n")
    (metadata / "entry_points.txt").write_text(
        f"[{group}]\n" + "\n".join(f"{name} = {target}" for name, target in entries.items())
    )
    done = python(folder, "-c", LIST)
    assert "'word_count'" in done.stdout, done.stderr


@pytest.mark.parametrize("name", ["", "Upper", "9lives", "with-dash", "a" * 65, "class", "../up"])
def test_what_is_no_name_writes_nothing(name: str, tmp_path: Path) -> None:
    with pytest.raises(SkeletonError, match="is no name"):
        write_skeleton(name, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_what_exists_is_left_alone(tmp_path: Path) -> None:
    written = write_skeleton("again", tmp_path)
    written[0].write_text("mine")
    with pytest.raises(SkeletonError, match="exists already"):
        write_skeleton("again", tmp_path)
    assert written[0].read_text() == "mine"
