"""A broker of a test's own."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.integration.kafka.own_broker import OwnBroker


@pytest.fixture
async def broker(tmp_path: Path) -> AsyncIterator[OwnBroker]:
    """A broker that the test may kill or freeze."""
    made = OwnBroker(tmp_path)
    await made.format()
    await made.start()
    yield made
    made.kill()
