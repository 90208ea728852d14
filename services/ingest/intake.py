"""From an HTTP request to a checked submission: the cheap is checked at once, the rest elsewhere."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.requests import Request

from services.ingest.bodies import Bodies
from services.ingest.body_decoder import BodyDecoder
from services.ingest.checking import BodyCheck, Wanted
from shared.domain.types import Mode
from shared.events.strict_json import INLINE_BYTES
from shared.operations.registry import Registry

__all__ = ["Intake"]


class Intake:
    """Reads and checks the bodies of submissions."""

    def __init__(self, bodies: Bodies, registry: Registry, decoder: BodyDecoder | None = None) -> None:
        self._bodies = bodies
        self._check = BodyCheck(registry)
        self._decoder = decoder or BodyDecoder()

    @asynccontextmanager
    async def wanted(self, request: Request, mode: Mode) -> AsyncIterator[Wanted]:
        """The submission in `request`; its bytes are accounted for until the end of the block.

        Raises:
            Problem: it is not one, or there is no room for it.
        """
        async with self._bodies.body(request) as body:
            here = self._check.check_if_cheap(body, mode) if len(body) <= INLINE_BYTES else None
            yield here or await self._decoder.check(body, mode)

    def check(self, body: bytes, mode: Mode) -> Wanted:
        """The submission in `body`, checked where this is called.

        Raises:
            MalformedJson, InvalidRequest, UnknownOperation, InvalidInput: it is not one.
        """
        return self._check.check(body, mode)

    async def warm_up(self) -> None:
        """Have the decoder process started."""
        await self._decoder.warm_up()

    async def close(self) -> None:
        """End the decoder process."""
        await self._decoder.close()
