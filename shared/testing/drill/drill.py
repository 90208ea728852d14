"""A short drill: submit known work by every way in, wait until it is quiet, judge."""

import asyncio
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import aiohttp

from shared.domain.types import Mode
from shared.settings import KafkaSettings
from shared.testing.drill.judging.evidence import Evidence
from shared.testing.drill.judging.ledger import CallLog, Ledger
from shared.testing.drill.judging.verdict import Verdict, judge
from shared.testing.drill.submitting.producers import ConfluentProducer, find_kcat, submit_with_kcat
from shared.testing.drill.submitting.rest import RestClient
from shared.testing.drill.submitting.workload import Job, jobs

__all__ = ["DrillPlan", "run_drill"]

POLL_S: Final = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class DrillPlan:
    """How much of what, and how long to wait for the last of it.

    `name` tells this drill's requests from those of others; `rest` requests are half sync, half async, the
    producers' are async. Where kcat is not installed, confluent-kafka submits its share.
    """

    name: str
    rest: int
    kcat: int
    confluent: int
    concurrency: int = 16
    quiet_timeout_s: float = 120.0
    seed: int = 0


async def run_drill(
    plan: DrillPlan,
    settings: KafkaSettings,
    api: str,
    receiver: CallLog,
    *,
    say: Callable[[str], None] = lambda _: None,
) -> Verdict:
    """Run the drill against a system that nobody else uses meanwhile.

    Raises:
        TimeoutError: submitting was not possible for long.
        RefusedError, RuntimeError: a submission was refused.
    """
    ledger = Ledger()
    since = datetime.now(UTC).isoformat()
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        rest = RestClient(session, api)
        began = time.monotonic()
        await _submit(plan, settings, rest, ledger, receiver.url)
        say(f"{len(ledger.jobs)} accepted in {time.monotonic() - began:.1f} s, {rest.repeats} calls repeated")
        await _until_quiet(plan, ledger, receiver, rest, since)
        say(f"quiet after {time.monotonic() - began:.1f} s")
        listed = await rest.listed(since=since)
    return judge(ledger, Evidence(calls=receiver.calls(), listed=listed))


async def _submit(
    plan: DrillPlan, settings: KafkaSettings, rest: RestClient, ledger: Ledger, callback_url: str
) -> None:
    batches = {
        way: list(jobs(f"{plan.name}-{way}", count, mode=Mode.ASYNC, seed=plan.seed))
        for way, count in (("kcat", plan.kcat), ("confluent", plan.confluent))
        if count
    }

    def address(_: Job) -> str:
        return callback_url

    async with asyncio.TaskGroup() as tasks:
        submit = rest.submit_all(_mixed(plan), ledger, address=address, concurrency=plan.concurrency)
        tasks.create_task(submit)
        for way, batch in batches.items():
            source = f"{plan.name}-{way}"
            if way == "kcat" and find_kcat() is not None:
                tasks.create_task(submit_with_kcat(settings, source, batch, ledger, address=address))
            else:
                tasks.create_task(_whole(ConfluentProducer(settings, source, address), batch, ledger))


async def _whole(producer: ConfluentProducer, batch: list[Job], ledger: Ledger) -> None:
    left = await producer.submit(batch, ledger)
    if left:
        raise RuntimeError(f"{len(left)} records were not acknowledged")


def _mixed(plan: DrillPlan) -> Iterator[Job]:
    half = plan.rest // 2
    sync = jobs(f"{plan.name}-sync", half, mode=Mode.SYNC, seed=plan.seed)
    later = jobs(f"{plan.name}-async", plan.rest - half, mode=Mode.ASYNC, seed=plan.seed)
    for pair in zip(sync, later, strict=False):
        yield from pair
    yield from later


async def _until_quiet(
    plan: DrillPlan, ledger: Ledger, receiver: CallLog, rest: RestClient, since: str
) -> None:
    """Wait until every callback has come and every request is listed as ended; what is late is judged."""
    try:
        async with asyncio.timeout(plan.quiet_timeout_s):
            while ledger.missing_calls(receiver.calls()):  # noqa: ASYNC110 - another task receives
                await asyncio.sleep(POLL_S)
            while await _unfinished(rest, since, ledger):  # noqa: ASYNC110 - the API is asked
                await asyncio.sleep(POLL_S)
    except TimeoutError:
        return


async def _unfinished(rest: RestClient, since: str, ledger: Ledger) -> bool:
    """Whether a request is not listed yet, or not as ended, its callback included."""
    listed = await rest.listed(since=since)
    ended = sum(
        each.status in ("succeeded", "failed") and each.callback_status in ("none", "delivered")
        for each in listed
    )
    return ended < len(ledger.jobs)
