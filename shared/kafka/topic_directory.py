"""Which topics exist, remembered: asking the client library for a missing one costs it and others dear."""

import asyncio
import time
from typing import Final

from shared.kafka.producer_client import ProducerClient

__all__ = ["TopicDirectory"]

REFRESH_S: Final = 5.0
"""A topic that was missing is looked for again at most so often, whoever asks."""


class TopicDirectory:
    """Names of the topics on the broker; a name once seen is believed until it is doubted."""

    def __init__(self) -> None:
        self._names: frozenset[str] = frozenset()
        self._looked_at = -REFRESH_S
        self._lock = asyncio.Lock()

    async def knows(self, client: ProducerClient, name: str) -> bool:
        """Whether topic `name` exists, as far as is known or can be found out.

        Raises:
            KafkaError: the broker does not tell.
        """
        if name in self._names:
            return True
        async with self._lock:
            if time.monotonic() - self._looked_at >= REFRESH_S:
                self._names |= await client.topics()
                self._looked_at = time.monotonic()
        return name in self._names

    def doubt(self, name: str) -> None:
        """`name` does not answer: look again before it is next used."""
        if time.monotonic() - self._looked_at >= REFRESH_S:
            self._names -= {name}
