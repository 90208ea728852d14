"""Read-your-writes: an id is unknown only when the read side has seen all accepted so far.

Needs no state and knows no instance: what any producer was acknowledged before the question lies before the
log's end as of the question.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Final, Protocol, TypeVar

from services.ingest import metrics
from services.ingest.problems import NotVisibleYet, Overloaded, RequestNotFound
from services.ingest.settings import IngestSettings
from shared.db.views import RequestDetail, RequestView
from shared.domain.identity import canonical_uuid
from shared.domain.requests import RequestStatus
from shared.domain.types import RequestId
from shared.kafka.records import Partition

__all__ = ["FINISHED", "Ends", "ReadSide", "Visibility"]

FIRST_POLL_S: Final = 0.015
POLL_CAP_S: Final = 0.25
POLL_GROWTH: Final = 1.4
FINISHED: Final = (RequestStatus.SUCCEEDED, RequestStatus.FAILED)

T = TypeVar("T")


class ReadSide(Protocol):
    """What is asked of the database; every method raises DatabaseAwayError when it does not answer."""

    async def request(self, request_id: str) -> RequestView | None:
        """One request without its history."""

    async def detail(self, request_id: str) -> RequestDetail | None:
        """One request with its history."""

    async def projection_positions(self) -> dict[Partition, int]:
        """The next offset of every partition that is projected."""


Ends = Callable[[float], Awaitable[Mapping[Partition, int]]]
"""Where the request topics end, asked for at most that many seconds; raises LogUnavailable."""


class Visibility:
    """Finds requests that were accepted, also those that the read side has not seen yet."""

    def __init__(self, settings: IngestSettings, read_side: ReadSide, ends: Ends) -> None:
        self._wait_s = settings.visibility_wait_ms / 1000
        self._most_polling = settings.max_polling
        self._polling = 0
        self._read_side = read_side
        self._ends = ends

    async def detail(self, request_id: str, wait_s: float = 0.0) -> RequestDetail:
        """A request with its history; waits up to `wait_s` for its outcome.

        Raises:
            RequestNotFound: nothing was accepted under this id.
            Overloaded: too many callers wait for outcomes already.
            NotVisibleYet, LogUnavailable: whether it exists cannot be told now.
            DatabaseAwayError: the database does not answer.
        """
        known = _id_of(request_id)
        if wait_s > 0:
            await self._until_finished(known, wait_s)
        return await self._find(known, self._read_side.detail)

    async def view(self, request_id: str) -> RequestView:
        """A request without its history; raises as `detail` does."""
        return await self._find(_id_of(request_id), self._read_side.request)

    async def _find(self, request_id: RequestId, look: Callable[[str], Awaitable[T | None]]) -> T:
        try:
            async with asyncio.timeout(self._wait_s):
                found = await look(request_id)
                if found is None:
                    await self._until_caught_up()
                    found = await look(request_id)
        except TimeoutError:
            raise NotVisibleYet(
                f"the read side has not caught up within {self._wait_s:g} s; ask again"
            ) from None
        if found is None:
            raise RequestNotFound(f"no request {request_id} has been accepted")
        return found

    async def _until_caught_up(self) -> None:
        """Return when the read side has seen all that was accepted before; the caller has the deadline."""
        ends = await self._ends(self._wait_s / 2)
        for pause_s in _polls():
            positions = await self._read_side.projection_positions()
            if all(positions.get(partition, 0) >= end for partition, end in ends.items()):
                return
            await asyncio.sleep(pause_s)

    async def _until_finished(self, request_id: RequestId, wait_s: float) -> None:
        deadline = time.monotonic() + wait_s
        view: RequestView | None = await self._find(request_id, self._read_side.request)
        with self._poller():
            for pause_s in _polls():
                left_s = deadline - time.monotonic()
                if (view is not None and view.status in FINISHED) or left_s <= 0:
                    return
                await asyncio.sleep(min(pause_s, left_s))
                view = await self._read_side.request(request_id)

    @contextmanager
    def _poller(self) -> Iterator[None]:
        if self._polling >= self._most_polling:
            raise Overloaded(f"{self._polling} callers wait for outcomes; ask without `wait`")
        self._polling += 1
        metrics.POLLING.inc()
        try:
            yield
        finally:
            self._polling -= 1
            metrics.POLLING.dec()


def _polls() -> Iterator[float]:
    pause_s = FIRST_POLL_S
    while True:
        yield pause_s
        pause_s = min(pause_s * POLL_GROWTH, POLL_CAP_S)


def _id_of(text: str) -> RequestId:
    request_id = canonical_uuid(text)
    if request_id is None:
        raise RequestNotFound("request ids are UUIDs, such as 5f0f3c0e-6c0a-4d3b-9d6e-2f6a1b7c8d90")
    return request_id
