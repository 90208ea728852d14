"""Callbacks under load, failure and death: python -m bench.callbacks [latency|kill|stall|neighbour|storm …].

Each starts a system of its own on the embedded broker and database, and a receiver in this process.

latency    from the 202 to the callback's arrival, at a fixed rate of submissions whatever the answers do
kill       SIGKILL of the callback service in the middle of that load: what is lost, what comes twice
stall      the callback service stopped for a while in the middle of that load, as where CPU is short
neighbour  a healthy destination beside one that hangs, and beside one that answers after 25 s
storm      a destination that fails every delivery, and then none: how it recovers, and within which limits
outage     a receiver that is dead for a while and comes back, a healthy one beside it: appends, disk, drain
ports      a healthy receiver beside 64 ports of the same submitter that hang
"""

import argparse
import asyncio
import os
import signal
import time

import uvloop
from aiokafka import AIOKafkaProducer
from orjson import dumps

from bench.callback_load import (
    COLUMNS,
    FAILING,
    LATE_S,
    SECRET,
    SOURCE,
    WARM_UP_S,
    Bench,
    delays_ms,
    running,
    submit_at_rate,
    warm_up,
)
from bench.callback_outage import outage, ports
from bench.figures import print_table
from shared.domain.identity import id_of_reference
from shared.kafka.topics import Topic, topic_name
from shared.testing.receiver import Receiver
from shared.testing.receiver_behaviour import OBEDIENT


async def latency(options: argparse.Namespace) -> None:
    """Accept to callback, open loop."""
    async with running() as bench:
        await warm_up(bench, options.rate, int(options.rate * WARM_UP_S))
        accepted = await submit_at_rate(bench, options.rate, int(options.rate * options.seconds))
        missing = await bench.arrivals.wait_for(set(accepted))
        found = delays_ms(bench, accepted, missing)
        repeated = bench.arrivals.repeated(set(accepted))
    name = f"202 to callback at {options.rate:g}/s"
    print_table(("ms", *COLUMNS), [(name, *found.row())])
    print(f"missing {len(missing)}, repeated {repeated}")


async def kill(options: argparse.Namespace) -> None:
    """The same load over kills of the callback service."""
    async with running() as bench:
        await warm_up(bench, options.rate)
        load = asyncio.create_task(submit_at_rate(bench, options.rate, int(options.rate * options.seconds)))
        for number in range(options.kills):
            await asyncio.sleep(options.seconds / (options.kills + 1))
            bench.system.kill("callback-0")
            await bench.system.wait_ready()
            print(f"killed and back: {number + 1}")
        accepted = set(await load)
        missing = await bench.arrivals.wait_for(accepted)
        repeated = bench.arrivals.repeated(accepted)
    share = repeated / len(accepted)
    print(
        f"{len(accepted)} accepted at {options.rate:g}/s over {options.kills} kills: {len(missing)} missing, "
        f"{repeated} repeated ({share:.2%})"
    )


async def stall(options: argparse.Namespace) -> None:
    """The same load over a pause of the callback service: when all is as before, and what that costs."""
    async with running() as bench:
        await warm_up(bench, options.rate)
        load = asyncio.create_task(submit_at_rate(bench, options.rate, int(options.rate * options.seconds)))
        await asyncio.sleep(options.seconds / 3)
        pid = bench.system.services["callback-0"].pid
        if pid is None:
            raise SystemExit("callback-0 is not running; read its log")
        os.kill(pid, signal.SIGSTOP)
        await asyncio.sleep(options.stall)
        os.kill(pid, signal.SIGCONT)
        resumed = time.perf_counter()
        accepted = await load
        missing = await bench.arrivals.wait_for(set(accepted))
        repeated = bench.arrivals.repeated(set(accepted))
        first_s = bench.arrivals.first_s
    late = [at_s for each, at_s in accepted.items() if each in first_s and first_s[each] - at_s > LATE_S]
    caught_up_s = max(0.0, max(late, default=resumed) - resumed)
    print(
        f"{len(accepted)} accepted at {options.rate:g}/s, a pause of {options.stall:g} s: the last that took "
        f"over {LATE_S:g} s was accepted {caught_up_s:.1f} s after the pause; the longest took "
        f"{delays_ms(bench, accepted, missing).row()[-1]} ms; {len(missing)} missing, {repeated} repeated"
    )


async def neighbour(options: argparse.Namespace) -> None:
    """A healthy destination by itself, and while deliveries go to another one."""
    rows = []
    rate, count = options.rate, int(options.rate * options.seconds)
    other_rate = options.other_rate or rate
    others_count = int(other_rate * options.seconds)
    async with running() as bench, Receiver(secrets=[SECRET]) as other:
        await warm_up(bench, rate)
        others = {
            "alone": "",
            "beside a healthy one": other.url(),
            "beside one that hangs": other.url(do="hang"),
            "alone again": "",
            "beside one that answers after 25 s": other.url(delay_ms=25_000),
        }
        for name, url in others.items():
            beside = (
                asyncio.create_task(submit_at_rate(bench, other_rate, others_count, url)) if url else None
            )
            accepted = await submit_at_rate(bench, rate, count)
            missing = await bench.arrivals.wait_for(set(accepted))
            rows.append((name, *delays_ms(bench, accepted, missing).row(), f"{len(missing)}"))
            if beside is not None:
                await beside
    print_table((f"202 to callback at {rate:g}/s beside {other_rate:g}/s, ms", *COLUMNS, "missing"), rows)


async def storm(options: argparse.Namespace) -> None:
    """Thousands of failing deliveries whose destination recovers."""
    async with running() as bench:
        bench.receiver.behaviour = FAILING
        ids = await append(bench, options.deliveries)
        await asyncio.sleep(options.outage)
        failed = len(bench.receiver.calls)
        bench.receiver.behaviour = OBEDIENT
        bench.receiver.most_open_calls = 0
        began = time.perf_counter()
        missing = await bench.arrivals.wait_for(ids)
        seconds = max(bench.arrivals.first_s.values(), default=began) - began
        repeated = bench.arrivals.repeated(ids)
        most = bench.receiver.most_open_calls
    print(
        f"{len(ids)} deliveries, {failed} failed calls in {options.outage:g} s of outage; after it all were "
        f"delivered within {seconds:.1f} s, at most {most} calls at a time; {len(missing)} missing, "
        f"{repeated} repeated"
    )


async def append(bench: Bench, count: int) -> set[str]:
    """Requests with callbacks, straight into the log."""
    producer = AIOKafkaProducer(bootstrap_servers=bench.log.kafka, acks="all", linger_ms=5)
    await producer.start()
    try:
        topic = topic_name(bench.log, Topic.REQUESTS)
        url = bench.receiver.url()
        for number in range(count):
            request = {"operation": "hash_chain", "input": {"seed": "s"}, "callback_url": url}
            await producer.send(topic, dumps({**request, "source": SOURCE, "id": str(number)}))
        await producer.flush()
    finally:
        await producer.stop()
    return {id_of_reference(SOURCE, str(number)) for number in range(count)}


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True)
    for measure in (latency, kill, stall, neighbour, storm, outage, ports):
        command = commands.add_parser(measure.__name__)
        command.set_defaults(measure=measure)
        command.add_argument("--rate", type=float, default=200.0, help="submissions a second")
        command.add_argument("--other-rate", type=float, help="submissions a second for another")
        command.add_argument("--seconds", type=float, default=30.0)
        command.add_argument("--kills", type=int, default=3)
        command.add_argument("--stall", type=float, default=3.0, help="seconds")
        command.add_argument("--deliveries", type=int, default=5_000)
        command.add_argument("--outage", type=float, default=15.0, help="seconds")
    options = parser.parse_args()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:  # the load should cost little itself
        runner.run(options.measure(options))


if __name__ == "__main__":
    main()
