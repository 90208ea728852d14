"""How many events a second the projection takes: python -m bench.projection --mysql URL [--kafka ADDRESS].

Every request has three events: submitted, succeeded, delivered. They meet in one batch when the projector
keeps up, and lie far apart when it catches up topic by topic; both are measured on the writer alone, in
a database of its own. With a broker, the same events are also read from it by the projector as it runs.
"""

import argparse
import asyncio
import resource
import secrets
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pymysql
from aiokafka import AIOKafkaProducer
from msgspec import Raw
from pydantic import SecretStr
from sqlalchemy.engine import URL, make_url

from bench.topics import delete_topics
from services.projector.handlers import Projector
from services.projector.settings import ProjectorSettings
from shared.db.batches import Batch, Move
from shared.db.interpret import interpret
from shared.db.migrate import upgrade
from shared.db.writer import projection_session
from shared.domain.callbacks import CallbackDelivered
from shared.domain.requests import RequestSucceeded
from shared.domain.types import JsonText, Mode, RequestFacts, RequestId
from shared.events.codec import EncodedEvent, Origin, encode
from shared.events.submission import RequestData, encode_submission
from shared.kafka import topics_admin
from shared.kafka.records import Partition, Record
from shared.kafka.topics import Topic, topic_name
from shared.settings import DatabaseSettings

PARTITIONS = 8
URL_CALLED = "https://receiver.example/hooks/orders"
INPUT = Raw(b'{"rounds": 1000, "seed": "' + b"s" * 100 + b'"}')
RESULT = JsonText('{"digest": "' + "d" * 200 + '"}')
PREFIX = "consuma."


@dataclass(frozen=True)
class Line:
    """One event and where it goes."""

    topic: Topic
    partition: int
    event: EncodedEvent


def life(number: int) -> Iterator[Line]:
    """The three events of a request."""
    request_id = RequestId(f"{secrets.token_hex(4)}-0000-4000-8000-{number:012d}")
    now_ms = time.time_ns() // 1_000_000
    origin = Origin(event_id=str(number), source="/consuma/bench", now_ms=now_ms)
    about = RequestFacts(
        request_id=request_id, mode=Mode.ASYNC, source="rest", operation="hash_chain", accepted_at_ms=now_ms
    )
    data = RequestData(operation="hash_chain", input=INPUT, callback_url=URL_CALLED)
    outcome = RequestSucceeded(
        **about,
        attempts=1,
        finished_at_ms=now_ms,
        queue_ms=0.4,
        compute_ms=2.5,
        callback_url=URL_CALLED,
        result=RESULT,
    )
    delivered = CallbackDelivered(
        **about, url=URL_CALLED, attempt=1, status=200, at_ms=now_ms, duration_ms=3.5
    )
    partition = number % PARTITIONS
    yield Line(Topic.REQUESTS, partition, encode_submission(request_id, data, origin, Mode.ASYNC))
    yield Line(Topic.RESULTS, partition, encode(outcome, origin))
    yield Line(Topic.CALLBACKS, partition, encode(delivered, origin))


def as_records(lines: Sequence[Line]) -> list[tuple[Topic, Record]]:
    """The records that a consumer would see."""
    ends: dict[Partition, int] = {}
    records = []
    for line in lines:
        place = Partition(PREFIX + line.topic, line.partition)
        offset = ends.get(place, 0)
        ends[place] = offset + 1
        now_ms = time.time_ns() // 1_000_000
        event = line.event
        records.append((line.topic, Record(*place, offset, now_ms, event.key, event.value, event.headers)))
    return records


async def write_all(settings: DatabaseSettings, lines: Sequence[Line], batch_records: int) -> float:
    """Seconds that the writer takes, interpretation included."""
    records = as_records(lines)
    positions = {Partition(record.topic, record.partition): 0 for _, record in records}
    async with projection_session(settings, f"bench-{secrets.token_hex(4)}") as session:
        await session.register(positions)
        began = time.perf_counter()
        for start in range(0, len(records), batch_records):
            chunk = records[start : start + batch_records]
            ends = {Partition(each.topic, each.partition): each.offset + 1 for _, each in chunk}
            await session.write(
                Batch(
                    entries=[interpret(topic, record) for topic, record in chunk],
                    moves={place: Move(positions[place], end) for place, end in ends.items()},
                )
            )
            positions |= ends
        return time.perf_counter() - began


async def bench_writer(server: URL, requests: int) -> None:
    """The writer alone, by batch size and by how far a request's events lie apart."""
    for batch_records in (100, 500, 1_000):
        together = [line for number in range(requests) for line in life(number)]
        apart = sorted(together, key=lambda line: list(Topic).index(line.topic))
        for name, lines in (("in one batch", together), ("far apart", apart)):
            with own_database(server) as url:
                cpu = resource.getrusage(resource.RUSAGE_SELF).ru_utime
                seconds = await write_all(DatabaseSettings(mysql=SecretStr(url)), lines, batch_records)
                cpu = resource.getrusage(resource.RUSAGE_SELF).ru_utime - cpu
            print(
                f"writer, batches of {batch_records:>5}, events of a request {name}: "
                f"{len(lines) / seconds:>7,.0f} events/s, {cpu / seconds:.0%} of a core here"
            )


async def bench_projector(server: URL, kafka: str, requests: int) -> None:
    """The projector as it runs, catching up with a log that is already there."""
    with own_database(server) as url:
        settings = ProjectorSettings(
            mysql=SecretStr(url),
            kafka=kafka,
            topic_prefix=f"bench-{secrets.token_hex(4)}.",
            partitions=PARTITIONS,
        )
        await topics_admin.apply(settings)
        try:
            await fill(settings, requests)
            seconds = await catch_up(settings, requests * 3)
            print(f"projector catching up from Kafka: {requests * 3 / seconds:,.0f} events/s")
        finally:
            await delete_topics(settings)


async def fill(settings: ProjectorSettings, requests: int) -> None:
    """Append the events of `requests` requests."""
    producer = AIOKafkaProducer(bootstrap_servers=settings.kafka, acks="all", linger_ms=5)
    await producer.start()
    try:
        futures = [
            await producer.send(
                topic_name(settings, line.topic),
                value=line.event.value,
                key=line.event.key,
                partition=line.partition,
                headers=list(line.event.headers),
            )
            for number in range(requests)
            for line in life(number)
        ]
        await asyncio.gather(*futures)
    finally:
        await producer.stop()


async def catch_up(settings: ProjectorSettings, events: int) -> float:
    """Seconds from the first projected event until all are."""
    stop = asyncio.Event()
    task = asyncio.create_task(Projector(settings).run(stop))
    began = None
    try:
        async with asyncio.timeout(300):
            while (known := count_events(settings)) < events:
                began = began or (time.perf_counter() if known else None)
                await asyncio.sleep(0.05)
        return time.perf_counter() - (began or time.perf_counter())
    finally:
        stop.set()
        await task


def count_events(settings: ProjectorSettings) -> int:
    """Rows of the timeline."""
    target = make_url(settings.mysql.get_secret_value())
    with connect(target) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT SUM(next_offset) FROM projection_offsets")
        row = cursor.fetchone()
        return int(row[0] or 0) if row else 0


class own_database:  # noqa: N801 - reads as a verb
    """A migrated database, dropped at the end."""

    def __init__(self, server: URL) -> None:
        self._server = server
        self._name = f"consuma_bench_{secrets.token_hex(4)}"

    def __enter__(self) -> str:
        url = self._server.set(database=self._name).render_as_string(hide_password=False)
        upgrade(url)
        return url

    def __exit__(self, *_: object) -> None:
        with connect(self._server.set(database=None)) as connection, connection.cursor() as cursor:
            cursor.execute(f"DROP DATABASE `{self._name}`")


def connect(target: URL) -> "pymysql.Connection[pymysql.cursors.Cursor]":
    """A blocking connection."""
    return pymysql.connect(
        host=target.host,
        port=target.port or 3306,
        user=target.username,
        password=target.password or "",
        database=target.database,
        autocommit=True,
    )


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--mysql", required=True, help="SQLAlchemy URL of a server; databases named consuma_bench_…"
    )
    parser.add_argument("--kafka", help="host:port of a broker, for the projector as a whole")
    parser.add_argument("--requests", type=int, default=5_000)
    options = parser.parse_args()
    server = make_url(options.mysql)
    asyncio.run(bench_writer(server, options.requests))
    if options.kafka:
        asyncio.run(bench_projector(server, options.kafka, options.requests))


if __name__ == "__main__":
    main()
