"""A pause between failed requests for metadata.

The client library asks again at once where a partition has no known leader: as long as a broker is away or
starting, each client would try thousands of connections a second, and log each of them.
"""

import asyncio
from typing import Any, Final

from aiokafka.client import AIOKafkaClient

__all__ = ["pace_metadata"]

PAUSE_S: Final = 0.25
"""A broker that is back is noticed so much later at the most."""

_ask = AIOKafkaClient._metadata_update


def pace_metadata() -> None:
    """Have every client of this process pause; to be called before one is made."""
    AIOKafkaClient._metadata_update = _ask_and_pause


async def _ask_and_pause(client: AIOKafkaClient, *arguments: Any) -> bool:  # noqa: ANN401 - the library is untyped
    updated = bool(await _ask(client, *arguments))
    if not updated:
        await asyncio.sleep(PAUSE_S)
    return updated
