"""Which topics exist, remembered: asking the client library for a missing one costs it and others dear."""

import asyncio
import math
import time
from typing import Final

from shared.kafka.producer_client import ProducerClient

__all__ = ["TopicDirectory"]

INTERVAL_S: Final = 0.25
"""Topics are looked up at most so often, whoever asks for missing ones."""

DOUBT_AFTER_S: Final = 5.0
"""What was seen within this time is not doubted."""


class TopicDirectory:
    """Names of the topics on the broker; a name once seen is believed until it is doubted."""

    def __init__(self) -> None:
        self._names: frozenset[str] = frozenset()
        self._looked_at = -math.inf
        self._lock = asyncio.Lock()

    async def knows(self, client: ProducerClient, name: str) -> bool:
        """Whether topic `name` exists. One that existed when this was asked is never called missing.

        Raises:
            KafkaError: the broker does not tell.
        """
        if name in self._names:
            return True
        asked_at = time.monotonic()
        async with self._lock:
            if name not in self._names and self._looked_at <= asked_at:
                await asyncio.sleep(max(0.0, self._looked_at + INTERVAL_S - time.monotonic()))
                looked_at = time.monotonic()
                self._names |= await client.topics()
                self._looked_at = looked_at
        return name in self._names

    def doubt(self, name: str) -> None:
        """`name` does not answer: look again before it is next used."""
        if time.monotonic() - self._looked_at >= DOUBT_AFTER_S:
            self._names -= {name}
