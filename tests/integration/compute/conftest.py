"""Topics of one's own, and operations that misbehave."""

import secrets
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from services.compute.settings import ComputeSettings
from shared.kafka import topics_admin
from shared.operations.registry import load_registry
from tests.integration.compute.support import HAZARDS_PATH
from tests.integration.kafka.support import delete_topics


@pytest.fixture(autouse=True)
def hazards_installed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Here, and in processes that are started."""
    monkeypatch.syspath_prepend(str(HAZARDS_PATH))
    monkeypatch.setenv("PYTHONPATH", str(HAZARDS_PATH))
    load_registry.cache_clear()
    yield
    load_registry.cache_clear()


@pytest.fixture
async def settings(kafka_address: str, tmp_path: Path) -> AsyncIterator[ComputeSettings]:
    found = ComputeSettings(
        kafka=kafka_address,
        topic_prefix=f"t-{secrets.token_hex(4)}.",
        instance="compute-0",
        partitions=2,
        session_timeout_ms=6_000,
        drain_timeout_ms=10_000,
        crash_journal_dir=tmp_path / "journals",
    )
    await topics_admin.apply(found)
    yield found
    await delete_topics(found)
