"""Known work by every way in, and a verdict: python -m bench.drill [--minutes 10 --seed 1].

Starts a system of its own on the embedded broker and database, submits over REST (sync and async), with kcat
and with confluent-kafka, recomputes every result, verifies every callback's signature and compares what the
API lists with what happened.

Without --minutes, a fixed number of requests is submitted as fast as may be; with --kill, the named process
is killed with SIGKILL again and again meanwhile. With --minutes, a steady load runs for so long while every
service is killed and stopped in turn and the broker is restarted: the seed repeats the faults and the work.

The exit code is 0 when every promise was kept, 1 when one was broken, 2 when there is no verdict: the system
did not start, or the machine is too slow.
"""

import argparse
import asyncio
import random
import secrets
from contextlib import suppress

from bench.long_drill import LONG_RATE, NoVerdictError, long_drill
from bench.system import own_system
from infra.local.errors import LocalError
from infra.local.system import System
from services.callback.http_settings import CallbackHttpSettings
from services.callback.origin_queue import UNRECORDED_SHARE
from shared.testing.drill.drill import DrillPlan, run_drill
from shared.testing.drill.judging.verdict import Verdict
from shared.testing.receiver import Receiver
from shared.testing.receiver_calls import ReceiverCalls

MAY_BE_UNRECORDED = CallbackHttpSettings().callback_concurrency * UNRECORDED_SHARE
"""Calls that a receiver may have answered when the callback service dies, and hears again."""

SECRET = "whsec_" + "c2VjcmV0IG9mIHRoZSBkcmlsbCBvZiBjb25zdW1h"
NO_VERDICT = 2


async def drill(plan: DrillPlan, victim: str | None, times: int) -> tuple[Verdict, int]:
    """The verdict, and how often the victim was killed."""
    async with (
        Receiver(secrets=[SECRET], keep_bodies=True) as receiver,
        own_system(environment={"CONSUMA_WEBHOOK_SECRETS": SECRET}) as (system, log),
    ):
        kills = asyncio.create_task(kill_until_cancelled(system, victim, times))
        verdict = await run_drill(plan, log, system.api, ReceiverCalls(receiver), say=print)
        kills.cancel()
        return verdict, await kills


async def kill_until_cancelled(system: System, victim: str | None, times: int) -> int:
    """Kill the victim whenever it works again, at random moments; returns how often."""
    killed = 0
    with suppress(asyncio.CancelledError):
        while victim is not None and killed < times:
            await asyncio.sleep(random.uniform(0.2, 2.0))
            system.kill(victim)
            killed += 1
            await system.wait_ready()
    return killed


def short(options: argparse.Namespace) -> bool:
    """Run the short drill and print its verdict; whether every promise was kept."""
    plan = DrillPlan(
        name=f"drill-{secrets.token_hex(3)}",
        rest=options.rest,
        kcat=options.kcat,
        confluent=options.confluent,
        quiet_timeout_s=180.0,
    )
    verdict, killed = asyncio.run(drill(plan, options.kill, options.kills))
    if options.kill:
        print(f"{options.kill} was killed {killed} times")
    repeats = killed * MAY_BE_UNRECORDED if (options.kill or "").startswith("callback") else 0
    print("\n".join(verdict.lines(repeats=repeats)))
    return verdict.kept(repeats=repeats)


def arguments() -> argparse.Namespace:
    """What was asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rest", type=int, default=2_000)
    parser.add_argument("--kcat", type=int, default=1_000)
    parser.add_argument("--confluent", type=int, default=1_000)
    parser.add_argument("--kill", help="instance to kill, such as compute-1 or callback-0")
    parser.add_argument("--kills", type=int, default=5, help="how often, at most")
    parser.add_argument("--minutes", type=float, help="hurt the system for so long, under a steady load")
    parser.add_argument("--seed", type=int, default=1, help="of the faults and the work")
    parser.add_argument("--rate", type=float, default=LONG_RATE, help="requests a second")
    parser.add_argument("--drain", type=float, default=300.0, help="longest wait for the last request, s")
    parser.add_argument("--report", help="file for everything that is known, JSON; logs are kept beside it")
    return parser.parse_args()


def main() -> None:
    """Run and print; the exit code is the verdict."""
    options = arguments()
    try:
        kept = short(options) if options.minutes is None else long_drill(options, SECRET, MAY_BE_UNRECORDED)
    except (LocalError, NoVerdictError) as error:
        print(f"no verdict: {error}")
        raise SystemExit(NO_VERDICT) from None
    raise SystemExit(0 if kept else 1)


if __name__ == "__main__":
    main()
