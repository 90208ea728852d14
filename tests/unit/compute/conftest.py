"""Pools of slots whose operations misbehave."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from services.compute.slot_pool import SlotPool
from tests.unit.compute.support import HAZARDS_PATH, running_pool


@pytest.fixture(autouse=True)
def hazards_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The hazards' plugin is found by processes that are started, not by this one."""
    monkeypatch.setenv("PYTHONPATH", str(HAZARDS_PATH))


@pytest_asyncio.fixture
async def pool() -> AsyncIterator[SlotPool]:
    async with running_pool(slots=2, spares=1) as pool:
        yield pool
