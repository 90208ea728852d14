"""Submitting over REST as a careful client does: repeat under the same key until it is accepted."""

import asyncio
import uuid
from collections.abc import Iterable
from typing import Any, Final

import aiohttp
import orjson

from shared.domain.types import Mode
from shared.testing.drill.ledger import Ledger
from shared.testing.drill.workload import Job

__all__ = ["RestClient"]

PATIENCE_S: Final = 120.0
PAUSE_S: Final = 0.1
CALL_TIMEOUT_S: Final = 60.0
PAGE: Final = 500


class RestClient:
    """Talks to one API. Calls that fail for now are repeated for `PATIENCE_S`."""

    def __init__(self, session: aiohttp.ClientSession, api: str) -> None:
        self._session = session
        self._api = api
        self.repeats = 0

    async def submit_all(
        self, jobs: Iterable[Job], ledger: Ledger, *, callback_url: str, concurrency: int
    ) -> None:
        """Submit every job, `concurrency` at a time."""
        waiting = iter(jobs)

        async def work() -> None:
            for job in waiting:
                await self._submit(job, ledger, callback_url)

        async with asyncio.TaskGroup() as tasks:
            for _ in range(concurrency):
                tasks.create_task(work())

    async def listed(self, mode: Mode, status: str, since: str) -> set[str]:
        """Ids of all requests of one mode and status, through every page."""
        found: set[str] = set()
        query = {"mode": mode, "status": status, "since": since, "limit": str(PAGE)}
        while True:
            _, page = await self._patiently("GET", "/v1/requests", params=query)
            found |= {item["id"] for item in page["items"]}
            if page["next"] is None:
                return found
            query["cursor"] = page["next"]

    async def outcome(self, request_id: str) -> Any:  # noqa: ANN401 - parsed JSON
        """A request's outcome; waits for it."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                _, body = await self._patiently("GET", f"/v1/requests/{request_id}", params={"wait": "20"})
                if body["status"] in ("succeeded", "failed"):
                    return body

    async def _submit(self, job: Job, ledger: Ledger, callback_url: str) -> None:
        body = {"operation": job.operation, "input": job.input, "client_reference": job.reference}
        if job.mode is Mode.ASYNC:
            body["callback_url"] = callback_url
        key = str(uuid.uuid5(uuid.NAMESPACE_OID, job.reference))
        status, answer = await self._patiently(
            "POST", f"/v1/requests/{job.mode}", json=body, headers={"Idempotency-Key": key}
        )
        ledger.accept(answer["id"], job, callback=job.mode is Mode.ASYNC)
        if job.mode is Mode.SYNC:
            ledger.answer(answer["id"], answer if status == 200 else await self.outcome(answer["id"]))

    async def _patiently(self, method: str, path: str, **arguments: Any) -> tuple[int, Any]:  # noqa: ANN401
        """Status and body of the first answer below 500.

        Raises:
            TimeoutError: there was none for long.
            AssertionError: the call was refused.
        """
        async with asyncio.timeout(PATIENCE_S):
            while True:
                try:
                    status, body = await self._once(method, path, **arguments)
                    if status < 500:
                        assert status < 400, f"{method} {path} was refused: {status} {body!r}"  # noqa: S101
                        return status, orjson.loads(body)
                except (aiohttp.ClientError, OSError):
                    pass  # the process behind the port may just have died
                self.repeats += 1
                await asyncio.sleep(PAUSE_S)

    async def _once(self, method: str, path: str, **arguments: Any) -> tuple[int, bytes]:  # noqa: ANN401
        limit = aiohttp.ClientTimeout(total=CALL_TIMEOUT_S)
        async with self._session.request(method, self._api + path, timeout=limit, **arguments) as response:
            return response.status, await response.read()
