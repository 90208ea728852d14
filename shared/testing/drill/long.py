"""A long drill: a steady load while one fault after the other is done to the system, then the judgement."""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import aiohttp

from shared.domain.types import Mode
from shared.kafka.topics import Topic
from shared.settings import KafkaSettings
from shared.testing.drill.faults.chaos import RECOVERY_TIMEOUT_S, Incident, Target, do_faults
from shared.testing.drill.faults.schedule import Fault, fault_schedule
from shared.testing.drill.judging.evidence import (
    Evidence,
    dead_letters,
    lag_left,
    outcomes_in_log,
    records_in,
)
from shared.testing.drill.judging.ledger import CallLog, Ledger
from shared.testing.drill.judging.verdict import Verdict, judge
from shared.testing.drill.submitting.load import Load
from shared.testing.drill.submitting.rest import RefusedError, RestClient
from shared.testing.drill.submitting.workload import Job, jobs

__all__ = ["LongDrill", "LongPlan", "LongRun", "TooSlowError"]

WARM_UP: Final = 60
WARM_UP_S: Final = 30.0
LATEST_S: Final = 4.0
"""A drill whose own loop stood still for so long has kept receivers from answering in time."""

TICK_S: Final = 0.25
OVERTIME: Final = 1.5
"""So many times its minutes a drill lasts at most, until every victim has met with every planned fault."""

QUIET_POLL_S: Final = 2.0
LAG_TIMEOUT_S: Final = 30.0
SINCE: Final = "24h"

Say = Callable[[str], None]


class TooSlowError(Exception):
    """The machine has too little to spare for a verdict."""


class Receivers(CallLog, Protocol):
    """Receivers of callbacks, one of them for the jobs whose callbacks meet with trouble."""

    def address(self, job: Job) -> str:
        """Where the callback of a job goes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LongPlan:
    """How long, and at how many requests a second.

    `services` are the victims, `repeats` is how many repeated callbacks one incident of the callback service
    excuses, `drain_s` the longest wait for the last request.
    """

    minutes: float
    rate: float
    seed: int
    services: Sequence[str]
    repeats: int
    drain_s: float = 300.0
    name: str = "drill"


@dataclass(slots=True)
class LongRun:
    """What is known of a run besides its verdict.

    `undone` are the faults that found no time. `submitting_s` has every submission over REST, from the first
    try to the answer; `computing_s` every request, from its acceptance to its outcome. Both ascend.
    """

    faults: Sequence[Fault] = ()
    incidents: list[Incident] = field(default_factory=list)
    undone: list[Fault] = field(default_factory=list)
    submitting_s: list[float] = field(default_factory=list)
    computing_s: list[float] = field(default_factory=list)
    latest_s: float = 0.0
    drained_s: float | None = None
    timelines: dict[str, Any] = field(default_factory=dict)

    def spared(self) -> set[tuple[str, str]]:
        """Victims and kinds of faults that were planned, and not done even once."""
        planned = {(each.victim, str(each.kind)) for each in self.faults}
        return planned - {(each.victim, str(each.kind)) for each in self.incidents}


class LongDrill:
    """Runs once, against a system that nobody else uses.

    Args:
        plan: how much of everything.
        settings: where the log is.
        api: URL of the API.
        target: what faults are done to.
        receivers: take the callbacks.
        say: told of the progress.
    """

    def __init__(
        self,
        plan: LongPlan,
        settings: KafkaSettings,
        api: str,
        target: Target,
        receivers: Receivers,
        say: Say,
    ) -> None:
        self.facts = LongRun()
        """Filled in as the run goes on."""

        self._plan = plan
        self._settings = settings
        self._api = api
        self._target = target
        self._receivers = receivers
        self._say = say
        self._ledger = Ledger()

    async def run(self) -> Verdict:
        """Submit, hurt, drain, judge.

        Raises:
            TooSlowError: the machine has too little to spare.
        """
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
            rest = RestClient(session, self._api, patience_s=RECOVERY_TIMEOUT_S)
            await self._warm_up(rest)
            late = asyncio.create_task(self._watch_loop())
            try:
                await self._hurt(rest)
                await self._drain(rest)
            finally:
                late.cancel()
            if self.facts.latest_s > LATEST_S:
                raise TooSlowError(f"the drill itself stood still for {self.facts.latest_s:.1f} s")
            evidence = await self._evidence(rest)
            self.facts.computing_s = sorted(found[0].took_s for found in (evidence.outcomes or {}).values())
            verdict = judge(self._ledger, evidence, share=self._plan.repeats)
            await self._tell_timelines(rest, verdict)
        return verdict.troubled(*await self._troubles())

    async def _warm_up(self, rest: RestClient) -> None:
        """The first calls of every process are slow; where they take long, a drill tells nothing."""
        began = time.monotonic()
        first = jobs("warm-up", WARM_UP, mode=Mode.SYNC)
        try:
            async with asyncio.timeout(WARM_UP_S):
                await rest.submit_all(first, self._ledger, address=self._receivers.address, concurrency=4)
        except TimeoutError:
            message = f"{WARM_UP} small sync calls were not answered within {WARM_UP_S:.0f} s"
            raise TooSlowError(message) from None
        self._say(f"warm after {time.monotonic() - began:.1f} s; the load begins")

    async def _hurt(self, rest: RestClient) -> None:
        """The load, and the faults while it lasts."""
        plan = self._plan
        self.facts.faults = fault_schedule(plan.seed, plan.minutes, plan.services)
        for fault in self.facts.faults:
            self._say(f"planned: {fault}")
        began, length_s = asyncio.get_running_loop().time(), plan.minutes * 60
        load = self._load(rest)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(load.run())
            over = tasks.create_task(asyncio.sleep(length_s))
            self.facts.undone = await do_faults(
                self._target,
                self.facts.faults,
                until=began + length_s,
                latest=began + length_s * OVERTIME,
                done=self.facts.incidents,
                say=self._say,
            )
            await over
            load.stop()
        self.facts.submitting_s = sorted(rest.taken_s)
        self._say(f"the load is over: {len(self._ledger.jobs)} acknowledged, {rest.repeats} calls repeated")

    def _load(self, rest: RestClient) -> Load:
        plan = self._plan
        address = self._receivers.address
        return Load(
            self._settings, rest, self._ledger, address, name=plan.name, seed=plan.seed, rate=plan.rate
        )

    async def _drain(self, rest: RestClient) -> None:
        """Wait until nothing is under way; what still is when the time is over is judged."""
        began = time.monotonic()
        try:
            async with asyncio.timeout(self._plan.drain_s):
                while not await self._quiet(rest):  # noqa: ASYNC110 - the API is asked
                    await asyncio.sleep(QUIET_POLL_S)
        except TimeoutError:
            self._say(f"NOT quiet after {self._plan.drain_s:.0f} s")
            return
        self.facts.drained_s = time.monotonic() - began
        self._say(f"quiet after {self.facts.drained_s:.1f} s")

    async def _quiet(self, rest: RestClient) -> bool:
        _, stats = await rest.patiently("GET", "/v1/stats", params={"window": SINCE})
        ended = sum(
            item["count"]
            for item in stats["items"]
            if item["status"] in ("succeeded", "failed")
            and item["callback_status"] not in ("pending", "retrying")
        )
        return bool(ended == stats["total"] >= len(self._ledger.jobs))

    async def _evidence(self, rest: RestClient) -> Evidence:
        settings = self._settings
        return Evidence(
            calls=self._receivers.calls(),
            listed=await rest.listed(),
            outcomes=await outcomes_in_log(settings),
            letters=await dead_letters(settings),
            condemned=[record.position async for record in records_in(settings, Topic.REQUESTS_DLQ)],
            incidents=self.facts.incidents,
        )

    async def _troubles(self) -> list[str]:
        """What is wrong with the system as a whole."""
        lasting = [each for each in self.facts.incidents if each.ready is None]
        found = [f"{each.victim} {each.kind}: {', '.join(each.silent)} did not recover" for each in lasting]
        if self.facts.drained_s is None:
            found.append(f"requests were under way {self._plan.drain_s:.0f} s after the load")
        found += [f"{name} does not work at the end" for name in await self._target.silent()]
        lag = await self._lag()
        return found + [f"lag left: {name} has {count} records" for name, count in lag.items()]

    async def _lag(self) -> dict[str, int]:
        """The lag that does not vanish: commits come a little after the effects."""
        give_up_at = time.monotonic() + LAG_TIMEOUT_S
        while (lag := await lag_left(self._settings)) and time.monotonic() < give_up_at:  # noqa: ASYNC110
            await asyncio.sleep(QUIET_POLL_S)
        return lag

    async def _tell_timelines(self, rest: RestClient, verdict: Verdict) -> None:
        """What the API knows of a few of the requests with which a promise was broken."""
        stories = self.facts.timelines
        for request_id in {each for ids in verdict.offenders().values() for each in ids}:
            try:
                _, stories[request_id] = await rest.patiently("GET", f"/v1/requests/{request_id}")
            except (RefusedError, TimeoutError) as error:
                stories[request_id] = {"error": repr(error)}

    async def _watch_loop(self) -> None:
        """Note how late this process's own loop was at the most."""
        loop = asyncio.get_running_loop()
        while True:
            due_s = loop.time() + TICK_S
            await asyncio.sleep(TICK_S)
            self.facts.latest_s = max(self.facts.latest_s, loop.time() - due_s)
