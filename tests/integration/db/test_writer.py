"""The writer: fenced, atomic, strict about bytes, unimpressed by what it is given."""

import asyncio
import json
from dataclasses import replace

import pytest

from shared.db.batches import Batch, Move
from shared.db.errors import BatchRefusedError, DatabaseAwayError, ProjectionFencedError
from shared.db.interpret import Understood
from shared.db.writer import projection_session
from shared.domain.callbacks import CallbackReplayed, Delivery, DeliveryDeadLettered
from shared.domain.requests import RequestDeadLettered
from shared.domain.retry_policy import GiveUpReason
from shared.domain.types import JsonText
from shared.kafka.records import Partition
from shared.kafka.topics import Topic
from shared.settings import DatabaseSettings
from tests.integration.db.support import PROJECTOR, Inspector, apply, batch_of, register, settings_of
from tests.support.log_builder import PREFIX, LogBuilder
from tests.support.requests import URL, facts, live, request_id, submit, succeed

pytestmark = pytest.mark.mysql

NESTED = "[" * 31 + "1" + "]" * 31
PAYLOADS = {
    "four-byte characters": '{"text": "𝄞 𐍈 👩‍👩‍👧 é"}',
    "thirty digits in a string": '{"n": "123456789012345678901234567890"}',
    "order, duplicate keys and zeros": '{"b": 1.000, "a": 1e-7, "a": 2, "c": 1E300}',
    "deep": NESTED,
    "escapes": r"""{"quote": "\"", "slash": "\\", "nul": "\u0000", "sql": "'; DROP TABLE requests; --"}""",
    "space": ' {\n\t"a" :\r\n 1 } ',
    "percent": '{"format": "%s %(x)s %%"}',
    "trailing space": '"a  "',
}


@pytest.mark.parametrize("payload", PAYLOADS.values(), ids=PAYLOADS.keys())
async def test_payloads_stay_as_they_came(mysql_url: str, database: Inspector, payload: str) -> None:
    log = LogBuilder()
    submit(log, 0, text=payload)
    succeed(log, 0, result=payload)
    async with projection_session(settings_of(mysql_url), PROJECTOR) as session:
        await register(session, log)
        await apply(session, [log.records()])
    stored = {row["type"].split(".")[2]: row["data"] for row in database.rows("request_events")}
    assert stored["succeeded"] == (log.logs[Partition(PREFIX + "results", 0)][0].value or b"").decode()
    assert stored["succeeded"].endswith(payload + "}")
    assert f'"input":{payload.strip()}' in stored["submitted"]


async def test_names_stay_as_they_came(mysql_url: str, database: Inspector) -> None:
    log = LogBuilder()
    odd = "Ünï\u0000cødé 👻 %s '\"\\ "
    submit(log, 0, operation=odd, source=odd, client_reference="Key-A")
    submit(log, 1, client_reference="key-á")
    async with projection_session(settings_of(mysql_url), PROJECTOR) as session:
        await register(session, log)
        await apply(session, [log.records()])
    [row] = [row for row in database.rows("requests") if row["id"] == request_id(0)]
    assert (row["operation"], row["source"], row["client_reference"]) == (odd, odd, "Key-A")
    assert database.fetch("SELECT COUNT(*) AS n FROM requests WHERE client_reference = 'key-a'")[0]["n"] == 0


async def test_a_large_record_fits(mysql_url: str, database: Inspector) -> None:
    """The largest result of the log, every character of which is escaped on its way."""
    result = json.dumps("'" * (4 * 1024 * 1024 - 4096))
    log = LogBuilder()
    succeed(log, 0, result=result)
    async with projection_session(settings_of(mysql_url), PROJECTOR) as session:
        await register(session, log)
        await apply(session, [log.records()])
    [row] = database.rows("request_events")
    assert row["data"].endswith(result + "}")


async def test_a_batch_that_does_not_start_at_the_stored_position_is_refused(
    mysql_url: str, database: Inspector
) -> None:
    log = LogBuilder()
    for number in range(4):
        live(log, number)
    async with projection_session(settings_of(mysql_url), PROJECTOR) as session:
        await register(session, log)
        place = Partition(PREFIX + Topic.RESULTS, 0)
        early = batch_of(log.logs[place], dict.fromkeys(log.logs, 0))
        late = replace(early, moves={place: Move(1, 2)})
        unknown = replace(early, moves={Partition("t.nowhere", 0): Move(0, 2)})
        for wrong in (late, unknown):
            with pytest.raises(ProjectionFencedError):
                await session.write(wrong)
        assert database.rows("request_events") == []
        await session.write(early)
        with pytest.raises(ProjectionFencedError) as fenced:
            await session.write(early)
    assert (fenced.value.expected, fenced.value.stored) == (0, 2)
    assert len(database.rows("request_events")) == 2


async def test_of_two_writers_at_once_one_wins(mysql_url: str, database: Inspector) -> None:
    log = LogBuilder()
    for number in range(200):
        live(log, number)
    batch = batch_of(log.records(), dict.fromkeys(log.logs, 0))
    settings = settings_of(mysql_url)
    async with (
        projection_session(settings, PROJECTOR) as one,
        projection_session(settings, PROJECTOR) as two,
    ):
        await register(one, log)
        results = await asyncio.gather(one.write(batch), two.write(batch), return_exceptions=True)
    assert [type(result) for result in results if result] == [ProjectionFencedError]
    assert len(database.rows("request_events")) == 600


async def test_projectors_that_touch_the_same_rows_wait_or_try_again(
    mysql_url: str, database: Inspector
) -> None:
    """Two projectors of one database, as during a rebuild: each has its own positions and the same rows."""
    log = LogBuilder()
    for number in range(150):
        live(log, number)
    records = log.records()
    settings = settings_of(mysql_url)

    async def project(name: str) -> None:
        async with projection_session(settings, name) as session:
            await register(session, log)
            await apply(session, [records[start : start + 90] for start in range(0, len(records), 90)])

    await asyncio.gather(*(project(f"p-{number}") for number in range(4)))
    assert len(database.rows("request_events")) == 450
    assert {row["callback_status"] for row in database.rows("requests")} == {"delivered"}


async def test_nothing_is_left_of_a_batch_that_is_cut_off(mysql_url: str, database: Inspector) -> None:
    log = LogBuilder()
    live(log, 0)
    settings = settings_of(mysql_url)

    with pytest.raises(_CutOffError):
        await _die_before_commit(settings, log)
    async with projection_session(settings, PROJECTOR) as session:
        assert set((await session.positions()).values()) == {0}
        assert database.rows("requests") == []
        await apply(session, [log.records()])
    assert len(database.rows("requests")) == 1


class _CutOffError(Exception):
    """Stands for the death of the process."""


async def _die_before_commit(settings: DatabaseSettings, log: LogBuilder) -> None:
    async with projection_session(settings, PROJECTOR) as session:
        await register(session, log)
        whole = session._connection.execute

        async def execute(statement: str) -> None:
            if statement == "COMMIT":
                raise _CutOffError
            await whole(statement)

        session._connection.execute = execute  # type: ignore[method-assign]
        await apply(session, [log.records()])


async def test_only_one_session_holds_the_lock(mysql_url: str, database: Inspector) -> None:
    settings = settings_of(mysql_url)
    async with projection_session(settings, PROJECTOR) as second:
        async with projection_session(settings, PROJECTOR) as first:
            assert await first.acquire(0)
            assert not await second.acquire(0)
            async with projection_session(settings, "another") as other:
                assert await other.acquire(0)
        assert await second.acquire(5)


async def test_the_server_drops_a_silent_session(mysql_url: str, database: Inspector) -> None:
    settings = settings_of(mysql_url, write_timeout_ms=1_000)
    async with projection_session(settings, PROJECTOR) as silent:
        assert await silent.acquire(0)
        async with projection_session(settings_of(mysql_url), PROJECTOR) as next_one:
            assert await next_one.acquire(20)
        with pytest.raises(DatabaseAwayError):
            await silent.check()


async def test_a_refused_value_leaves_the_session_usable(mysql_url: str, database: Inspector) -> None:
    log = LogBuilder()
    live(log, 0)
    async with projection_session(settings_of(mysql_url), PROJECTOR) as session:
        await register(session, log)
        batch = batch_of(log.records(), dict.fromkeys(log.logs, 0))
        spoiled = [
            replace(entry, request_id="x" * 40) if isinstance(entry, Understood) else entry
            for entry in batch.entries
        ]
        with pytest.raises(BatchRefusedError):
            await session.write(Batch(entries=spoiled, moves=batch.moves))
        assert database.rows("request_events") == []
        await session.write(batch)


async def test_letters_and_what_became_of_them(mysql_url: str, database: Inspector) -> None:
    log = LogBuilder()
    delivery = Delivery(
        **facts(0), url=URL, webhook_id=request_id(0), body=JsonText("{}"), origin="t.results-0-0", attempt=6
    )
    letter = DeliveryDeadLettered(
        delivery=delivery,
        reason=GiveUpReason.EXHAUSTED,
        message="m" * 5_000,
        last_failed_at_ms=2,
        dead_lettered_at_ms=3,
    )
    first, second = (log.event(Topic.CALLBACKS_DLQ, letter) for _ in range(2))
    nameless = RequestDeadLettered(
        reason="malformed_json", message="no", origin="t.requests-0-9", timestamp_ms=1, dead_lettered_at_ms=2
    )
    log.event(Topic.REQUESTS_DLQ, nameless)
    replayed = CallbackReplayed(
        **facts(0), letter=first.position, replayed_by="ann", reason="mended", at_ms=9, replay_count=1
    )
    fact = log.event(Topic.CALLBACKS, replayed)
    async with projection_session(settings_of(mysql_url), PROJECTOR) as session:
        await register(session, log)
        await apply(session, [[fact], [first, second], log.logs[Partition(PREFIX + Topic.REQUESTS_DLQ, 0)]])
    rows = {(row["topic"], row["record_offset"]): row for row in database.rows("dead_letters")}
    replayed_row = rows[first.topic, first.offset]
    assert (replayed_row["state"], replayed_row["closed_by"], replayed_row["attempts"]) == (
        "replayed",
        "ann",
        6,
    )
    assert rows[second.topic, second.offset]["state"] == "open"
    assert len(replayed_row["message"]) == 1_024
    [unnamed] = [row for row in rows.values() if row["request_id"] is None]
    assert (unnamed["reason"], unnamed["origin"]) == ("malformed_json", "t.requests-0-9")
    assert [row["id"] for row in database.rows("requests")] == [request_id(0)]


async def test_a_database_that_is_not_there(mysql_url: str) -> None:
    nowhere = settings_of("mysql+aiomysql://root@127.0.0.1:1/consuma")
    with pytest.raises(DatabaseAwayError, match="does not answer"):
        async with projection_session(nowhere, PROJECTOR):
            raise AssertionError("nobody answers there")
