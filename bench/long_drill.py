"""The long drill with all that is around it: system, receivers, logs, report."""

import argparse
import asyncio
import json
import os
import shutil
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import orjson

from bench.system import own_system
from infra.local.leftovers import end_leftovers, living
from infra.local.system import System
from shared.testing.drill.judging.verdict import Verdict
from shared.testing.drill.long import LongDrill, LongPlan, LongRun, TooSlowError
from shared.testing.drill.submitting.workload import Job
from shared.testing.receiver import Receiver
from shared.testing.receiver_calls import ReceiverCalls

__all__ = ["LONG_RATE", "NoVerdictError", "long_drill"]

LONG_RATE = 24.0
HAZARDS = Path(__file__).parents[1] / "tests" / "support" / "hazards"
CALLBACK_TIMEOUT_MS = "5000"
ALARMS = ("consumer.offset_lost", "projector.partition_stopped")
END_S = 5.0
ORIGINS = 2
"""One receiver for callbacks that are taken at once, one for those that meet with trouble."""


class NoVerdictError(Exception):
    """The run tells nothing about the promises."""


class TwoReceivers(ReceiverCalls):
    """Callbacks that meet with trouble go to an origin of their own."""

    def __init__(self, prompt: Receiver, troubled: Receiver) -> None:
        super().__init__(prompt, troubled)
        self._troubled = troubled.url("/hook")

    def address(self, job: Job) -> str:
        """Where the callback of a job goes."""
        return f"{self._troubled}?{urlencode(job.callback)}" if job.callback else self.url


@dataclass(slots=True)
class Surroundings:
    """What the logs of the services tell, and what was left of their processes."""

    logs: Path
    alarms: list[str]
    errors: Counter[str]
    left: int = 0


def long_drill(options: argparse.Namespace, secret: str, repeats: int) -> bool:
    """Run it and print its verdict; whether every promise was kept.

    Raises:
        NoVerdictError: the machine is too slow, or not all that was planned could be done.
    """
    keep = Path(f"{options.report}.logs") if options.report else None
    try:
        verdict, run, around = asyncio.run(_drill(options, secret, repeats * ORIGINS, keep))
    except TooSlowError as error:
        raise NoVerdictError(f"the machine is too slow: {error}") from None
    for line in (*_figures(run, around), *verdict.lines(), *_stories(verdict, run)):
        print(line)
    if options.report:
        Path(options.report).write_text(_report(options, verdict, run, around))
    if run.spared() and verdict.kept():
        raise NoVerdictError(f"there was no time for these faults: {sorted(run.spared())}")
    return verdict.kept()


async def _drill(
    options: argparse.Namespace, secret: str, repeats: int, keep: Path | None
) -> tuple[Verdict, LongRun, Surroundings]:
    environment = {
        "CONSUMA_WEBHOOK_SECRETS": secret,
        "CONSUMA_CALLBACK_TIMEOUT_MS": CALLBACK_TIMEOUT_MS,
        "PYTHONPATH": os.pathsep.join([str(HAZARDS), *filter(None, [os.environ.get("PYTHONPATH")])]),
    }
    async with (
        Receiver(secrets=[secret], keep_bodies=True) as prompt,
        Receiver(secrets=[secret], keep_bodies=True) as troubled,
    ):
        async with own_system(environment=environment) as (system, log):
            plan = LongPlan(
                minutes=options.minutes,
                rate=options.rate,
                seed=options.seed,
                services=tuple(system.services),
                repeats=repeats,
                drain_s=options.drain,
            )
            receivers = TwoReceivers(prompt, troubled)
            drill = LongDrill(plan, log, system.api, system, receivers, _say)
            verdict = await drill.run()
            around = _read_logs(system, keep)
        around.left = await _left(system.data_dir)
    troubles = [f"alarm: {each}" for each in around.alarms]
    troubles += [f"{around.left} processes outlived the system"] if around.left else []
    return verdict.troubled(*troubles), drill.facts, around


def _say(line: str) -> None:
    print(time.strftime("%H:%M:%S"), line, flush=True)


def _read_logs(system: System, keep: Path | None) -> Surroundings:
    """Alarms and errors in the logs of the services, which are copied where a report is wanted."""
    found = Surroundings(keep or system.data_dir / "logs", [], Counter())
    for path in sorted((system.data_dir / "logs").iterdir()):
        for line in path.read_bytes().splitlines():
            _note(found, path.name, line)
    if keep is not None:
        shutil.rmtree(keep, ignore_errors=True)
        shutil.copytree(system.data_dir / "logs", keep)
    return found


def _note(found: Surroundings, name: str, line: bytes) -> None:
    try:
        entry = orjson.loads(line)
    except orjson.JSONDecodeError:
        return
    if isinstance(entry, dict) and entry.get("level") in ("error", "critical"):
        event, part = str(entry.get("event")), name.partition(".")[0]
        found.errors[f"{part}: {event[:100]}"] += 1
        if event in ALARMS:
            found.alarms.append(f"{part} {event} {entry.get('partition')}: {entry.get('reason')}")


async def _left(data_dir: Path) -> int:
    """How many processes live on after the stop; they are ended."""
    give_up_at = time.monotonic() + END_S
    while (left := living(data_dir)) and time.monotonic() < give_up_at:  # noqa: ASYNC110 - others end
        await asyncio.sleep(0.1)
    if left:
        await asyncio.to_thread(end_leftovers, data_dir)
    return left


def _figures(run: LongRun, around: Surroundings) -> list[str]:
    readies = [each.ready - each.ended for each in run.incidents if each.ready is not None]
    return [
        f"{len(run.incidents)} faults, the slowest recovery took {max(readies, default=0.0):.1f} s",
        f"from the first try to the answer: {_spread(run.submitting_s)}",
        f"from the acceptance to the outcome: {_spread(run.computing_s)}",
        f"the drill's own loop was {run.latest_s:.2f} s late at the most; "
        f"load {os.getloadavg()[2]:.1f} on {os.cpu_count()} cores",
        f"errors logged: {dict(around.errors.most_common(8))}",
    ]


def _spread(ascending: Sequence[float]) -> str:
    last = len(ascending) - 1
    if last < 0:
        return "nothing"
    at = [ascending[min(last, int(last * share))] for share in (0.5, 0.99, 1.0)]
    return f"{at[0]:.3f} s (median), {at[1]:.1f} s (p99), {at[2]:.1f} s (longest)"


def _stories(verdict: Verdict, run: LongRun) -> list[str]:
    """Timelines of a few requests with which a promise was broken, each once."""
    wrongs: dict[str, list[str]] = {}
    for what, ids in verdict.offenders().items():
        for request_id in ids:
            wrongs.setdefault(request_id, []).append(what)
    lines: list[str] = []
    for request_id, what_is_wrong in wrongs.items():
        story = run.timelines.get(request_id, {})
        lines.append(f"{request_id} {', '.join(what_is_wrong)}: {_brief(story)}")
        lines += [f"    {each}" for each in _events(story)]
    return lines


def _brief(story: Mapping[str, Any]) -> str:
    names = ("mode", "operation", "status", "callback_status", "error_code", "worker", "error")
    return ", ".join(f"{name}={story[name]}" for name in names if story.get(name) is not None)


def _events(story: Mapping[str, Any]) -> list[str]:
    return [
        f"{event['at']} {event['topic'].rpartition('.')[2]}-{event['partition']}-{event['offset']} "
        f"{event['type']}{' superseded' if event['superseded'] else ''}"
        for event in story.get("events", ())
    ]


def _report(options: argparse.Namespace, verdict: Verdict, run: LongRun, around: Surroundings) -> str:
    return json.dumps(
        {
            "options": vars(options),
            "verdict": verdict.report(),
            "incidents": [asdict(each) for each in run.incidents],
            "undone": [str(each) for each in run.undone],
            "faults": [str(each) for each in run.faults],
            "submitting": _spread(run.submitting_s),
            "computing": _spread(run.computing_s),
            "drained_s": run.drained_s,
            "loop_late_s": run.latest_s,
            "errors": around.errors,
            "timelines": run.timelines,
        },
        indent=1,
        default=str,
    )
