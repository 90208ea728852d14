"""`consuma projector`: run it, or see how far it is."""

import asyncio
import logging
import sys

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError
from cyclopts import App
from rich.console import Console
from rich.table import Table

from shared.db.database import open_database
from shared.db.errors import DatabaseAwayError
from shared.db.queries import RequestQueries
from shared.kafka.ending import end_bounded
from shared.kafka.records import Partition
from shared.settings import DatabaseSettings, KafkaSettings

__all__ = ["projector"]

TIMEOUT_S = 20.0

projector = App(name="projector", help="Project the log into the tables, or see how far that is.")


@projector.default
def run() -> None:
    """Project until told to stop; with another projector running, stand by for it."""
    from services.projector.app import create_app
    from services.projector.settings import ProjectorSettings
    from shared.service import run_service

    settings = ProjectorSettings()
    raise SystemExit(run_service(settings, create_app(settings)))


@projector.command
def status() -> None:
    """Show, for every partition, the stored position, the log's end and what lies between."""
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # what it retries is no news to a person
    try:
        positions, ends = asyncio.run(_positions())
    except DatabaseAwayError as error:
        problem = f"{error}: is it running and migrated? see CONSUMA_MYSQL and `consuma migrate`"
    except (KafkaError, TimeoutError, OSError) as error:
        problem = f"no answer from Kafka at {KafkaSettings().kafka} ({error!r}); see CONSUMA_KAFKA"
    else:
        _print(positions, ends)
        return
    print(f"consuma projector status: {problem}", file=sys.stderr)
    raise SystemExit(1)


async def _positions() -> tuple[dict[Partition, int], dict[Partition, int]]:
    kafka = KafkaSettings()
    async with open_database(DatabaseSettings()) as database:
        positions = await RequestQueries(database, kafka).projection_positions()
    own = {each: offset for each, offset in positions.items() if each.topic.startswith(kafka.topic_prefix)}
    if not own:
        return {}, {}
    client = AIOKafkaConsumer(bootstrap_servers=kafka.kafka, isolation_level="read_committed")
    async with asyncio.timeout(TIMEOUT_S):
        await client.start()
        try:
            ends = await client.end_offsets([TopicPartition(*each) for each in own])
        finally:
            await end_bounded(client.stop(), TIMEOUT_S)
    return own, {Partition(*source): end for source, end in ends.items()}


def _print(positions: dict[Partition, int], ends: dict[Partition, int]) -> None:
    if not positions:
        print("nothing has been projected yet: is a projector running? see `consuma projector`")
        return
    table = Table("topic", "partition", "projected to", "log's end", "lag")
    for column in table.columns[1:]:
        column.justify = "right"
    for each in sorted(positions):
        lag = ends[each] - positions[each]
        table.add_row(each.topic, str(each.number), str(positions[each]), str(ends[each]), str(lag))
    Console().print(table)
    print(f"lag: {sum(ends[each] - positions[each] for each in positions)} records")
