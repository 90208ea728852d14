"""Submitting over REST as a careful client does: repeat under the same key until it is accepted."""

import asyncio
import time
import uuid
from collections.abc import Iterable
from typing import Any, Final

import aiohttp
import orjson

from shared.domain.types import Mode
from shared.kafka.backoff import backoff_s
from shared.testing.drill.judging.evidence import Listed
from shared.testing.drill.judging.ledger import Address, Ledger
from shared.testing.drill.submitting.workload import Job, Told

__all__ = ["RefusedError", "RestClient"]

PATIENCE_S: Final = 120.0
PAUSE_S: Final = 0.1
PAUSE_CAP_S: Final = 1.0
CALL_TIMEOUT_S: Final = 60.0
PAGE: Final = 500
TOO_MANY: Final = 429


class RefusedError(Exception):
    """The API refused for good what it should have taken."""


class RestClient:
    """Talks to one API. Calls that fail for now are repeated for `patience_s`.

    `taken_s` tells of every submission how long it took from the first try to the answer.
    """

    def __init__(self, session: aiohttp.ClientSession, api: str, *, patience_s: float = PATIENCE_S) -> None:
        self._patience_s = patience_s
        self._session = session
        self._api = api
        self.repeats = 0
        self.taken_s: list[float] = []

    async def submit_all(
        self, jobs: Iterable[Job], ledger: Ledger, *, address: Address, concurrency: int
    ) -> None:
        """Submit every job, `concurrency` at a time, and see each sync one to its outcome."""
        waiting = iter(jobs)

        async def work() -> None:
            for job in waiting:
                request_id = await self.submit(job, ledger, address)
                if job.mode is Mode.SYNC and request_id not in ledger.answers:
                    ledger.answer(request_id, Told.by(await self._outcome(request_id)))

        async with asyncio.TaskGroup() as tasks:
            for _ in range(concurrency):
                tasks.create_task(work())

    async def submit(self, job: Job, ledger: Ledger, address: Address) -> str:
        """Submit a job, or submit it again, until it is acknowledged; its id.

        Raises:
            TimeoutError: it was not acknowledged for long.
            RefusedError: it was refused.
        """
        body = {**job.body(), "client_reference": job.reference}
        if job.mode is Mode.ASYNC:
            body["callback_url"] = address(job)
        key = str(uuid.uuid5(uuid.NAMESPACE_OID, job.reference))
        ledger.attempt(job)
        began_s = time.monotonic()
        status, answer = await self.patiently(
            "POST", f"/v1/requests/{job.mode}", json=body, headers={"Idempotency-Key": key}
        )
        self.taken_s.append(time.monotonic() - began_s)
        ledger.accept(answer["id"], job, callback=job.mode is Mode.ASYNC)
        if job.mode is Mode.SYNC and status == 200:
            ledger.answer(answer["id"], Told.by(answer))
        return str(answer["id"])

    async def listed(self, **filters: str) -> list[Listed]:
        """All requests that the filters let through, through every page."""
        found: list[Listed] = []
        query = {**filters, "limit": str(PAGE)}
        while True:
            _, page = await self.patiently("GET", "/v1/requests", params=query)
            found += [_row(item) for item in page["items"]]
            if page["next"] is None:
                return found
            query["cursor"] = page["next"]

    async def patiently(self, method: str, path: str, **arguments: Any) -> tuple[int, Any]:  # noqa: ANN401
        """Status and body of the first answer that is final.

        Raises:
            TimeoutError: there was none for long.
            RefusedError: the call was refused.
        """
        async with asyncio.timeout(self._patience_s):
            for pause_s in backoff_s(PAUSE_S, PAUSE_CAP_S):
                try:
                    status, body = await self._once(method, path, **arguments)
                    if status < 400:
                        return status, orjson.loads(body)
                    if status < 500 and status != TOO_MANY:
                        raise RefusedError(f"{method} {path}: {status} {body[:500]!r}")
                except (aiohttp.ClientError, OSError):
                    pass  # the process behind the port may just have died
                self.repeats += 1
                await asyncio.sleep(pause_s)
        raise AssertionError("back-off is endless")

    async def _outcome(self, request_id: str) -> Any:  # noqa: ANN401 - parsed JSON
        """A request's outcome; waits for it."""
        async with asyncio.timeout(self._patience_s):
            while True:
                _, body = await self.patiently("GET", f"/v1/requests/{request_id}", params={"wait": "20"})
                if body["status"] in ("succeeded", "failed"):
                    return body

    async def _once(self, method: str, path: str, **arguments: Any) -> tuple[int, bytes]:  # noqa: ANN401
        limit = aiohttp.ClientTimeout(total=CALL_TIMEOUT_S)
        async with self._session.request(method, self._api + path, timeout=limit, **arguments) as response:
            return response.status, await response.read()


def _row(item: Any) -> Listed:  # noqa: ANN401 - parsed JSON
    return Listed(item["id"], item["client_reference"], item["mode"], item["status"], item["callback_status"])
