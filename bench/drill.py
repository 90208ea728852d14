"""Known work by every way in, and a verdict: python -m bench.drill [--kill compute-1].

Starts a system of its own on the embedded broker and database, submits over REST (half sync, half async),
with kcat and with confluent-kafka, recomputes every result, verifies every callback's signature and compares
what the API lists with what happened. With --kill, the named process is killed with SIGKILL again and again.
"""

import argparse
import asyncio
import random
import secrets
from contextlib import suppress

from bench.system import own_system
from infra.local.system import System
from services.callback.http_settings import CallbackHttpSettings
from services.callback.lane import UNRECORDED_SHARE
from shared.testing.drill.drill import DrillPlan, run_drill
from shared.testing.drill.ledger import Verdict
from shared.testing.receiver import Receiver
from shared.testing.receiver_calls import ReceiverCalls

MAY_BE_UNRECORDED = CallbackHttpSettings().callback_concurrency * UNRECORDED_SHARE
"""Calls that a receiver may have answered when the callback service dies, and hears again."""

SECRET = "whsec_" + "c2VjcmV0IG9mIHRoZSBkcmlsbCBvZiBjb25zdW1h"


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


def main() -> None:
    """Run and print; exit code 1 when a promise was not kept."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rest", type=int, default=2_000)
    parser.add_argument("--kcat", type=int, default=1_000)
    parser.add_argument("--confluent", type=int, default=1_000)
    parser.add_argument("--kill", help="instance to kill, such as compute-1 or callback-0")
    parser.add_argument("--kills", type=int, default=5, help="how often, at most")
    options = parser.parse_args()
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
    raise SystemExit(0 if verdict.kept(repeats=repeats) else 1)


if __name__ == "__main__":
    main()
