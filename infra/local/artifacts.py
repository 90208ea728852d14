"""The files of the embedded stack: coordinates in a Maven repository, pinned by size and SHA-256."""

import hashlib
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Final

__all__ = ["LOCK_NAME", "Artifact", "parse_lock", "pinned"]

LOCK_NAME: Final = "stack.lock"


@dataclass(frozen=True, slots=True)
class Artifact:
    """One jar. `part` is what it belongs to: `kafka`, or `mariadb`, whose jar is an archive of binaries."""

    part: str
    group: str
    name: str
    version: str
    size: int
    sha256: str

    @property
    def path(self) -> str:
        """Where it lies in a repository, and in the cache."""
        return f"{self.group.replace('.', '/')}/{self.name}/{self.version}/{self.name}-{self.version}.jar"

    def line(self) -> str:
        """As it stands in the lock file."""
        return f"{self.part} {self.group}:{self.name}:{self.version} {self.size} {self.sha256}"

    def is_intact(self, path: Path) -> bool:
        """Whether the file at `path` is there, can be read, and is this one byte for byte."""
        try:
            with path.open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest() == self.sha256
        except OSError:
            return False


def parse_lock(text: str) -> tuple[Artifact, ...]:
    """The artifacts of a lock file, in its order."""
    lines = (line for line in text.splitlines() if line and not line.startswith("#"))
    return tuple(_parse(line) for line in lines)


def pinned(part: str) -> tuple[Artifact, ...]:
    """The artifacts of one part, as this release pins them."""
    text = files("infra.local").joinpath(LOCK_NAME).read_text()
    return tuple(each for each in parse_lock(text) if each.part == part)


def _parse(line: str) -> Artifact:
    part, coordinates, size, sha256 = line.split()
    group, name, version = coordinates.split(":")
    return Artifact(part, group, name, version, int(size), sha256)
