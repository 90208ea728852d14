"""One value that the database refuses costs its own record only."""

from dataclasses import replace

import pytest

from services.projector.handlers import _write
from shared.db.batches import Batch
from shared.db.interpret import Understood
from shared.db.writer import projection_session
from tests.integration.db.support import PROJECTOR, Inspector, batch_of, register, settings_of
from tests.support.log_builder import LogBuilder
from tests.support.requests import live

pytestmark = pytest.mark.mysql


@pytest.mark.parametrize(
    "spoiled", [{"request_id": "x" * 40}, {"data": "\ud800"}, {"type": "\ud800"}], ids=str
)
async def test_a_refused_record_is_kept_as_an_anomaly_and_its_batch_goes_on(
    mysql_url: str, database: Inspector, spoiled: dict[str, str]
) -> None:
    """Decoding checks all that columns demand; this is for the day when it does not."""
    log = LogBuilder()
    for number in range(10):
        live(log, number)
    batch = batch_of(log.records(), dict.fromkeys(log.logs, 0))
    entries = list(batch.entries)
    refused = entries[7]
    assert isinstance(refused, Understood)
    entries[7] = replace(refused, **spoiled)  # type: ignore[arg-type]
    async with projection_session(settings_of(mysql_url), PROJECTOR) as session:
        await register(session, log)
        await _write(session, Batch(entries=entries, moves=batch.moves))
        positions = await session.positions()
    assert positions == {place: len(records) for place, records in log.logs.items()}
    assert len(database.rows("request_events")) == 30
    [anomaly] = database.fetch("SELECT * FROM request_events WHERE anomaly IS NOT NULL")
    assert anomaly["record_offset"] == refused.record.offset
    assert "refused by the database" in anomaly["anomaly"]
