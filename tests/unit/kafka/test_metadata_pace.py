"""A client whose broker is away asks for metadata a few times a second, not as fast as it is refused."""

import time

from aiokafka.client import AIOKafkaClient

from shared.kafka.metadata_pace import PAUSE_S, pace_metadata


async def test_a_refused_request_is_followed_by_a_pause() -> None:
    pace_metadata()
    client = AIOKafkaClient(bootstrap_servers="127.0.0.1:1")
    asked, began = 0, time.monotonic()
    while time.monotonic() - began < 4 * PAUSE_S:
        assert not await client._metadata_update(client.cluster, [])
        asked += 1
    assert asked <= 5
    await client.close()
