"""Artifacts from a repository into a directory: verified, resumed after an interruption, put in place whole.

A file under its final name is complete and was intact when it was put there. Whoever fetches holds the
directory's lock.
"""

import asyncio
import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import httpx

from infra.local.artifacts import Artifact
from infra.local.errors import LocalError, first_error
from infra.local.reporting import Reporter
from shared.kafka.backoff import backoff_s

__all__ = ["Fetcher"]

AT_ONCE: Final = 4
ATTEMPTS: Final = 5
TIMEOUT_S: Final = 30.0
"""Of connecting and of each read: a stalled transfer is resumed."""

CHUNK_BYTES: Final = 256 * 1024


class _BrokenTransferError(Exception):
    """What arrived is not what is pinned."""


class Fetcher:
    """Downloads artifacts of `url` into `directory`, a few at a time."""

    def __init__(self, url: str, directory: Path, reporter: Reporter) -> None:
        self._url = url.rstrip("/")
        self._directory = directory
        self._reporter = reporter
        self._turns = asyncio.Semaphore(AT_ONCE)

    async def fetch(self, artifacts: Sequence[Artifact]) -> None:
        """Have every one of `artifacts` in place.

        Raises:
            LocalError: the repository did not give one of them, or the disk is full.
        """
        self._reporter.expect_bytes(sum(each.size for each in artifacts))
        try:
            with first_error():
                await self._fetch_all(artifacts)
        except OSError as error:
            raise LocalError(
                f"the download could not be written to {self._directory} ({error}): make room or set "
                "CONSUMA_CACHE_DIR to a directory with 1 GB free; what has arrived is kept"
            ) from error

    async def _fetch_all(self, artifacts: Sequence[Artifact]) -> None:
        async with (
            httpx.AsyncClient(timeout=TIMEOUT_S, follow_redirects=True) as client,
            asyncio.TaskGroup() as tasks,
        ):
            for each in artifacts:
                tasks.create_task(self._have(client, each))

    async def _have(self, client: httpx.AsyncClient, artifact: Artifact) -> None:
        async with self._turns:
            for attempt, wait_s in zip(range(1, ATTEMPTS + 1), backoff_s(0.5, 8.0), strict=False):
                try:
                    await self._transfer(client, artifact)
                except (httpx.HTTPError, _BrokenTransferError) as error:
                    if attempt == ATTEMPTS or _is_final(error):
                        raise self._refusal(artifact, error) from error
                    await asyncio.sleep(wait_s)
                else:
                    return

    async def _transfer(self, client: httpx.AsyncClient, artifact: Artifact) -> None:
        """Fetch what is missing of the partial file, and put it in place when it is what was pinned."""
        target = self._directory / artifact.path
        partial = target.with_name(target.name + ".part")
        partial.parent.mkdir(parents=True, exist_ok=True)
        begin = _size(partial)
        if begin >= artifact.size:
            partial.unlink()
            begin = 0
        counted = begin
        self._reporter.got_bytes(begin)
        try:
            headers = {"Range": f"bytes={begin}-"} if begin else {}
            async with client.stream("GET", f"{self._url}/{artifact.path}", headers=headers) as response:
                response.raise_for_status()
                resumed = response.status_code == httpx.codes.PARTIAL_CONTENT
                if begin and not resumed:
                    self._reporter.got_bytes(-begin)
                    counted = 0
                with partial.open("ab" if resumed else "wb") as file:
                    async for chunk in response.aiter_raw(CHUNK_BYTES):
                        file.write(chunk)
                        counted += len(chunk)
                        self._reporter.got_bytes(len(chunk))
                        if counted > artifact.size:
                            break
            await asyncio.to_thread(_verify, artifact, partial)
        except BaseException:
            self._reporter.got_bytes(-counted)
            raise
        os.replace(partial, target)

    def _refusal(self, artifact: Artifact, error: Exception) -> LocalError:
        problem = str(error) or type(error).__name__
        mirror = "set CONSUMA_MAVEN_URL to a mirror of Maven Central"
        if isinstance(error, _BrokenTransferError):
            advice = f"something on the way changes files: {mirror} that you trust"
        elif isinstance(error, httpx.HTTPStatusError):
            problem = f"{error.response.status_code} {error.response.reason_phrase}"
            advice = f"the repository lacks or refuses it: {mirror} that has it"
        else:
            advice = f"check the network and HTTPS_PROXY, or {mirror}; the next start resumes"
        return LocalError(f"{self._url}/{artifact.path} could not be fetched ({problem}): {advice}")


def _verify(artifact: Artifact, path: Path) -> None:
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != artifact.sha256:
        size = path.stat().st_size
        path.unlink()
        raise _BrokenTransferError(
            f"{size} bytes with SHA-256 {found[:12]}… instead of {artifact.size} with {artifact.sha256[:12]}…"
        )


def _is_final(error: Exception) -> bool:
    """Whether asking again is pointless: the repository has answered that it will not."""
    return isinstance(error, httpx.HTTPStatusError) and error.response.status_code in (
        401,
        403,
        404,
        407,
        410,
    )


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
