"""`consuma topics`: the log's topics as code."""

import asyncio
import logging
import sys
from collections.abc import Coroutine, Iterator
from typing import Annotated, Any, TypeVar

from aiokafka.errors import KafkaError
from cyclopts import App, Parameter
from rich.console import Console
from rich.table import Table

from shared.kafka import topic_status, topics_admin
from shared.kafka.topic_status import TopicStatus
from shared.settings import KafkaSettings

__all__ = ["topics"]

topics = App(name="topics", help="Create, configure and look at the topics.")

Result = TypeVar("Result")


@topics.command
def apply() -> None:
    """Create missing topics, mend settings that differ, and commit the groups' missing start positions.

    Safe to repeat. Positions that exist are never moved.
    """
    changes = _run(topics_admin.apply(KafkaSettings()))
    for change in changes or ["nothing to change"]:
        print(change)


@topics.command
def show(*, partitions: bool = False) -> None:
    """List the topics with their records and how far each group is behind, in records and in time.

    Blamed records were held by a slot or the decoder when their process died; each is run alone, and ended as
    poison once too many of its runs have ended with the process.

    Args:
        partitions: A row for each partition and group.
    """
    found = _run(topic_status.show(KafkaSettings()))
    Console().print(_by_partition(found) if partitions else _by_topic(found))
    for topic, partition, group, offset, runs in _blamed(found):
        print(
            f"blamed by {group}: {topic}-{partition}-{offset}, whose last {runs} runs ended with the process"
        )


def _by_topic(found: list[TopicStatus]) -> Table:
    table = _table("topic", "partitions", "records", "lag", "oldest unfinished")
    for status in found:
        lag = ", ".join(f"{group} {_lag(status.lag(group))}" for group in status.groups)
        ages = [(group, status.oldest_age_s(group)) for group in status.groups]
        oldest = ", ".join(f"{group} {_age(age)}" for group, age in ages if age is not None)
        count = str(len(status.partitions))
        table.add_row(status.name, count, str(status.records), lag or "-", oldest or "-")
    return table


def _by_partition(found: list[TopicStatus]) -> Table:
    table = _table("partition", "group", "committed", "end", "lag", "oldest unfinished", "blamed")
    for status in found:
        for partition in status.partitions:
            for group, each in partition.groups.items():
                table.add_row(
                    f"{status.name}-{partition.number}",
                    group,
                    "-" if each.committed is None else str(each.committed),
                    str(partition.end),
                    _lag(None if each.committed is None else each.lag),
                    "-" if each.oldest_age_s is None else _age(each.oldest_age_s),
                    str(len(each.blamed)),
                )
    return table


def _blamed(found: list[TopicStatus]) -> Iterator[tuple[str, int, str, int, int]]:
    for status in found:
        for partition in status.partitions:
            for group, each in partition.groups.items():
                for offset, runs in each.blamed.items():
                    yield status.name, partition.number, group, offset, runs


def _table(first: str, *others: str) -> Table:
    table = Table(first, *others)
    for column in table.columns[1:]:
        column.justify = "right"
    return table


def _age(seconds: float) -> str:
    """A time as people say it."""
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.1f} s"


@topics.command
def replies(
    name: Annotated[str, Parameter(help="Of the producer: the topic is called replies.NAME.")], /
) -> None:
    """Create a topic for the replies of one producer; safe to repeat."""
    print(_run(topics_admin.create_replies(KafkaSettings(), name)))


def _lag(behind: int | None) -> str:
    return "no position: run `consuma topics apply`" if behind is None else str(behind)


def _run(work: Coroutine[Any, Any, Result]) -> Result:
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # what it retries is no news to a person
    try:
        return asyncio.run(work)
    except topics_admin.TopicConflictError as error:
        problem = str(error)
    except (KafkaError, TimeoutError, OSError) as error:
        problem = (
            f"no answer from Kafka at {KafkaSettings().kafka} ({error!r}): is it running? see CONSUMA_KAFKA"
        )
    print(f"consuma topics: {problem}", file=sys.stderr)
    raise SystemExit(1)
