"""What the API is answered, and that no answer keeps it waiting."""

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from sqlalchemy.dialects import mysql
from sqlalchemy.engine import make_url

from shared.db.database import Database, open_database
from shared.db.errors import DatabaseAwayError, InvalidCursorError, QueryTimeoutError
from shared.db.filters import PageStart, RequestFilter, choose_index
from shared.db.queries import RequestQueries, _page_statement
from shared.db.views import RequestView
from shared.db.writer import projection_session
from shared.domain.callbacks import CallbackAttempted, CallbackStatus
from shared.domain.requests import Failure, FailureCode, RequestFailed, RequestStatus
from shared.domain.retry_policy import ErrorClass
from shared.domain.types import Mode
from shared.kafka.records import Partition
from shared.kafka.topics import Topic
from shared.settings import KafkaSettings
from tests.integration.db.support import Inspector, apply, register, settings_of
from tests.support.log_builder import PREFIX, LogBuilder
from tests.support.requests import URL, deliver, facts, request_id, submit, succeed
from tests.support.tcp_proxy import TcpProxy

pytestmark = pytest.mark.mysql

KAFKA = KafkaSettings(topic_prefix=PREFIX)


@pytest.fixture
async def queries(mysql_url: str, database: Inspector) -> AsyncIterator[RequestQueries]:
    async with open_database(settings_of(mysql_url)) as opened:
        yield RequestQueries(opened, KAFKA)


async def project(url: str, log: LogBuilder) -> None:
    async with projection_session(settings_of(url), "live") as session:
        await register(session, log)
        await apply(session, [log.records()])


def fail(log: LogBuilder, number: int, *, mode: Mode = Mode.ASYNC) -> None:
    event = RequestFailed(
        **facts(number, mode=mode),
        attempts=2,
        finished_at_ms=log.now_ms,
        callback_url=URL,
        error=Failure(code=FailureCode.CRASHED, message="signal 11", signal="SIGSEGV"),
    )
    log.event(Topic.RESULTS, event, partition=number % 2)


def population() -> LogBuilder:
    """Forty requests: sync and async, of two operations and sources, in every state."""
    log = LogBuilder()
    for number in range(40):
        mode = Mode.SYNC if number % 4 == 0 else Mode.ASYNC
        submit(
            log,
            number,
            mode=mode,
            operation="primes" if number % 3 else "hash_chain",
            source="rest" if number % 5 else "kafka",
            client_reference=f"order-{number}",
        )
        if number % 7 == 0:
            fail(log, number, mode=mode)
        elif number % 2:
            succeed(log, number, mode=mode)
            if number % 3 == 0:
                deliver(log, number)
    return log


FILTERS = [
    RequestFilter(),
    RequestFilter(mode=Mode.SYNC),
    RequestFilter(status=RequestStatus.FAILED),
    RequestFilter(mode=Mode.ASYNC, status=RequestStatus.SUCCEEDED),
    RequestFilter(callback_status=CallbackStatus.DELIVERED),
    RequestFilter(callback_status=CallbackStatus.NONE),
    RequestFilter(mode=Mode.ASYNC, callback_status=CallbackStatus.PENDING),
    RequestFilter(operation="primes"),
    RequestFilter(source="kafka"),
    RequestFilter(since_ms=1_700_000_000_010, until_ms=1_700_000_000_020),
    RequestFilter(mode=Mode.ASYNC, since_ms=1_700_000_000_010, until_ms=1_700_000_000_031),
    RequestFilter(operation="primes", source="rest", status=RequestStatus.SUCCEEDED, mode=Mode.ASYNC),
    RequestFilter(callback_status=CallbackStatus.DELIVERED, status=RequestStatus.SUCCEEDED),
    RequestFilter(operation="no such operation"),
]


def fits(view: RequestView, asked: RequestFilter) -> bool:
    return (
        all(getattr(view, column) == value for column, value in asked.equalities.items())
        and (asked.since_ms is None or view.accepted_at_ms >= asked.since_ms)
        and (asked.until_ms is None or view.accepted_at_ms < asked.until_ms)
    )


@pytest.mark.parametrize("asked", FILTERS, ids=str)
async def test_pages_hold_what_was_asked_for(
    mysql_url: str, queries: RequestQueries, asked: RequestFilter
) -> None:
    await project(mysql_url, population())
    everything = (await queries.page(RequestFilter(), limit=500)).items
    assert len(everything) == 40
    wanted = [view.id for view in everything if fits(view, asked)]
    got: list[str] = []
    cursor: str | None = None
    while True:
        page = await queries.page(asked, limit=3, cursor=cursor)
        got += [view.id for view in page.items]
        cursor = page.next
        if cursor is None:
            break
    assert got == wanted


async def test_pages_do_not_shift_while_requests_come_in(mysql_url: str, queries: RequestQueries) -> None:
    await project(mysql_url, population())
    first = await queries.page(RequestFilter(), limit=10)
    later = LogBuilder()
    later.logs[Partition(PREFIX + Topic.REQUESTS, 5)] = []
    for number in range(100, 110):
        submit(later, number)
    for record in later.logs.pop(Partition(PREFIX + Topic.REQUESTS, 0)):
        later.logs[Partition(PREFIX + Topic.REQUESTS, 5)].append(replace(record, partition=5))
    del later.logs[Partition(PREFIX + Topic.REQUESTS, 1)]
    await project(mysql_url, later)
    second = await queries.page(RequestFilter(), limit=10, cursor=first.next)
    assert {view.id for view in second.items} == {request_id(number) for number in range(20, 30)}


@pytest.mark.parametrize("kind", ["id", "ID in capitals", "prefix", "reference"])
async def test_q_finds_ids_prefixes_and_references(
    mysql_url: str, queries: RequestQueries, kind: str
) -> None:
    await project(mysql_url, population())
    wanted = request_id(13)
    q = {"id": wanted, "ID in capitals": wanted.upper(), "prefix": wanted[:8], "reference": "order-13"}[kind]
    page = await queries.page(RequestFilter(q=q))
    assert [view.id for view in page.items] == [wanted]
    assert (await queries.page(RequestFilter(q=q, status=RequestStatus.RUNNING))).items == ()


@pytest.mark.parametrize("q", ["abc", "%", "' OR 1=1 --", "ünïcode", "order-1 ", "0000000"])
async def test_q_finds_nothing_else(mysql_url: str, queries: RequestQueries, q: str) -> None:
    await project(mysql_url, population())
    found = {view.client_reference for view in (await queries.page(RequestFilter(q=q))).items}
    assert found <= {q.rstrip()}


async def test_a_cursor_is_only_good_as_it_is_and_where_it_was_made(
    mysql_url: str, queries: RequestQueries
) -> None:
    await project(mysql_url, population())
    cursor = (await queries.page(RequestFilter(), limit=5)).next
    assert cursor
    spoiled = ("A" if cursor[20] != "A" else "B").join((cursor[:20], cursor[21:]))
    for wrong in (spoiled, cursor[:-4], "", "é", "AAAA"):
        if wrong:
            with pytest.raises(InvalidCursorError, match="damaged"):
                await queries.page(RequestFilter(), cursor=wrong)
    with pytest.raises(InvalidCursorError, match="other filters"):
        await queries.page(RequestFilter(mode=Mode.SYNC), cursor=cursor)
    with pytest.raises(ValueError, match="limit"):
        await queries.page(RequestFilter(), limit=501)


async def test_a_detail_tells_the_whole_story(mysql_url: str, queries: RequestQueries) -> None:
    log = LogBuilder()
    submit(log, 0, text='{"n": 1.50}')
    submit(log, 0, text='{"n": 2}')
    succeed(log, 0, result='{"b": 1.000, "a": 1}')
    fail(log, 0)
    attempted = CallbackAttempted(
        **facts(0),
        url=URL,
        attempt=1,
        error_class=ErrorClass.HTTP_5XX,
        at_ms=5,
        duration_ms=1.5,
        status=503,
        message="unavailable",
        response_excerpt="<html>",
        retry_at_ms=9,
    )
    log.event(Topic.CALLBACKS, attempted)
    deliver(log, 0)
    log.event(Topic.CALLBACKS, attempted)
    await project(mysql_url, log)
    detail = await queries.detail(request_id(0).upper())
    assert detail is not None
    assert (detail.input, detail.result, detail.error) == ('{"n": 1.50}', '{"b": 1.000, "a": 1}', None)
    assert detail.request.status is RequestStatus.SUCCEEDED
    assert detail.request.callback_status is CallbackStatus.DELIVERED
    shown = [(entry.type.removeprefix("consuma."), entry.superseded) for entry in detail.events]
    assert sorted(shown) == [
        ("callback.attempted.v1", False),
        ("callback.attempted.v1", True),
        ("callback.delivered.v1", False),
        ("request.failed.v1", True),
        ("request.submitted.v1", False),
        ("request.submitted.v1", True),
        ("request.succeeded.v1", False),
    ]
    calls = [(call.outcome, call.http_status, call.superseded) for call in detail.callback_attempts]
    assert sorted(calls) == [("delivered", 200, False), ("failed", 503, False), ("failed", 503, True)]
    assert detail.truncated is False


async def test_a_failure_is_told_in_full(mysql_url: str, queries: RequestQueries) -> None:
    log = LogBuilder()
    fail(log, 0)
    await project(mysql_url, log)
    detail = await queries.detail(request_id(0))
    assert detail is not None
    assert detail.error == Failure(code=FailureCode.CRASHED, message="signal 11", signal="SIGSEGV")
    assert (detail.input, detail.result) == (None, None)
    assert (detail.request.error_code, detail.request.attempts) == ("crashed", 2)
    assert detail.request.callback_status is CallbackStatus.PENDING


async def test_what_is_long_is_left_out_of_the_timeline_but_not_of_the_detail(
    mysql_url: str, queries: RequestQueries
) -> None:
    log = LogBuilder()
    result = f'"{"x" * 100_000}"'
    succeed(log, 0, result=result)
    await project(mysql_url, log)
    detail = await queries.detail(request_id(0))
    assert detail is not None
    assert detail.result == result
    [entry] = detail.events
    assert entry.data is None
    assert entry.data_bytes is not None
    assert entry.data_bytes > 100_000


@pytest.mark.parametrize("wrong", [request_id(99), "no-id", "é", ""])
async def test_an_unknown_request_is_none(queries: RequestQueries, wrong: str) -> None:
    assert await queries.detail(wrong) is None
    assert await queries.request(wrong) is None


async def test_counts_and_positions(mysql_url: str, queries: RequestQueries) -> None:
    log = population()
    await project(mysql_url, log)
    counts = await queries.stats(since_ms=0)
    assert sum(each.count for each in counts) == 40
    views = (await queries.page(RequestFilter(), limit=500)).items
    for each in counts:
        state = (each.mode, each.status, each.callback_status)
        assert sum((v.mode, v.status, v.callback_status) == state for v in views) == each.count
    assert await queries.stats(since_ms=1_700_000_000_000, until_ms=1_700_000_000_000) == ()
    assert await queries.projection_positions() == {
        place: len(records) for place, records in log.logs.items()
    }


@pytest.mark.parametrize("asked", FILTERS, ids=str)
async def test_a_page_reads_its_index_and_sorts_nothing(
    mysql_url: str, queries: RequestQueries, database: Inspector, asked: RequestFilter
) -> None:
    await project(mysql_url, population())
    statement = _page_statement(asked, PageStart(1_700_000_000_030, request_id(1))).limit(51)
    sql = statement.compile(dialect=mysql.dialect(), compile_kwargs={"literal_binds": True})
    [plan] = database.fetch(f"EXPLAIN FORMAT=TRADITIONAL {sql}")
    assert plan["key"] == choose_index(asked).name
    assert "filesort" not in (plan["Extra"] or "")


async def test_a_database_that_hangs_answers_in_time(mysql_url: str, database: Inspector) -> None:
    target = make_url(mysql_url)
    async with TcpProxy(target.host or "", target.port or 3306) as proxy:
        url = target.set(host="127.0.0.1", port=proxy.port).render_as_string(hide_password=False)
        async with open_database(settings_of(url, query_timeout_ms=500)) as opened:
            queries = RequestQueries(opened, KAFKA)
            assert (await queries.page(RequestFilter())).items == ()
            proxy.hang()
            began = time.monotonic()
            results = await asyncio.gather(
                *(queries.page(RequestFilter()) for _ in range(30)), return_exceptions=True
            )
            assert {type(result) for result in results} == {QueryTimeoutError}
            assert time.monotonic() - began < 10
            proxy.flow()
            assert (await queries.page(RequestFilter())).items == ()


async def test_a_connection_that_died_in_the_pool_is_replaced(mysql_url: str, database: Inspector) -> None:
    target = make_url(mysql_url)
    async with TcpProxy(target.host or "", target.port or 3306) as proxy:
        url = target.set(host="127.0.0.1", port=proxy.port).render_as_string(hide_password=False)
        async with open_database(settings_of(url)) as opened:
            queries = RequestQueries(opened, KAFKA)
            assert (await queries.page(RequestFilter())).items == ()
            proxy.cut()
            assert (await queries.page(RequestFilter())).items == ()
            proxy.refuse(True)
            with pytest.raises(DatabaseAwayError):
                await queries.page(RequestFilter())
            proxy.refuse(False)
            assert (await queries.page(RequestFilter())).items == ()


async def test_a_database_that_was_never_migrated_is_away(mysql_url: str) -> None:
    url = make_url(mysql_url).set(database="information_schema").render_as_string(hide_password=False)
    database = Database(settings_of(url))
    try:
        with pytest.raises(DatabaseAwayError):
            await RequestQueries(database, KAFKA).page(RequestFilter())
    finally:
        await database.close()
