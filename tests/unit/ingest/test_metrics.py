"""Metrics of several workers are told whatever state a killed one has left its files in."""

from pathlib import Path

import pytest
from prometheus_client.mmap_dict import MmapedDict, mmap_key

from services.ingest import metrics


def test_a_worker_killed_while_it_created_its_file_does_not_hide_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer used to be 500 until the API was restarted."""
    values = MmapedDict(str(tmp_path / "counter_1.db"))  # type: ignore[no-untyped-call]
    key = mmap_key("sent_total", "sent_total", [], [], "What was sent.")
    values.write_value(key, 3.0, 0.0)  # type: ignore[no-untyped-call]
    values.close()  # type: ignore[no-untyped-call]
    (tmp_path / "counter_2.db").touch()
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    assert b"sent_total 3.0" in metrics.exposition()
