"""What the death of one compute process costs the others: python -m bench.kill_one.

Starts a system of its own on the embedded broker and database, appends a record to every partition each
50 ms, kills one of four compute processes with SIGKILL, and prints each partition's worst delay from append
to outcome.
"""

import argparse
import asyncio

from bench.figures import print_table
from bench.system import own_system
from infra.local.services import SERVICES
from shared.testing.drill.probe import worst_delays

VICTIM = "compute-2"


async def measure(seconds: float) -> tuple[list[float], list[float]]:
    """Worst delays by partition, ascending: undisturbed, and over a kill."""
    services = [each for each in SERVICES if each.name == "compute"]
    async with own_system(services=services) as (system, log):

        async def nothing() -> None:
            return

        async def kill() -> None:
            system.kill(VICTIM)
            await system.wait_ready()

        calm = await worst_delays(log, seconds, nothing)
        killed = await worst_delays(log, seconds, kill)
    return sorted(calm.values()), sorted(killed.values())


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=10.0)
    options = parser.parse_args()
    calm, killed = asyncio.run(measure(options.seconds))
    head = ("worst delay by partition, s", *(f"{number + 1}." for number in range(len(calm))))
    rows = [
        ("nothing happens", *(f"{delay:.2f}" for delay in calm)),
        (f"SIGKILL of {VICTIM}", *(f"{delay:.2f}" for delay in killed)),
    ]
    print_table(head, rows)


if __name__ == "__main__":
    main()
