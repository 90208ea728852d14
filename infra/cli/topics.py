"""`consuma topics`: the log's topics as code."""

import asyncio
import logging
import sys
from collections.abc import Coroutine
from typing import Annotated, Any, TypeVar

from aiokafka.errors import KafkaError
from cyclopts import App, Parameter
from rich.console import Console
from rich.table import Table

from shared.kafka import topics_admin
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
def show() -> None:
    """List the topics with their records and how far each group is behind."""
    table = Table("topic", "partitions", "records", "lag")
    for column in table.columns[1:]:
        column.justify = "right"
    for status in _run(topics_admin.show(KafkaSettings())):
        lag = ", ".join(f"{group} {_lag(behind)}" for group, behind in status.lag.items())
        table.add_row(status.name, str(status.partitions), str(status.records), lag or "-")
    Console().print(table)


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
