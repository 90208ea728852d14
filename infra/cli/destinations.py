"""`consuma destinations`: who gets no callbacks any more, and changing that.

Data goes to standard output, everything else to standard error. Exit codes: 0 done, also when there was
nothing to do; 1 no answer from Kafka; 2 wrong usage.
"""

import asyncio
import getpass
import json
import logging
import sys
import time
from collections.abc import Coroutine, Sequence
from dataclasses import asdict
from typing import Annotated, Any, Final, Literal, Never, TypeVar

from aiokafka.errors import KafkaError
from cyclopts import App, Parameter
from rich.console import Console
from rich.table import Table
from yarl import URL

from services.callback.http_settings import CallbackHttpSettings
from services.callback.origins import origin_of
from services.callback.signing import SecretError, derived_key, parse_secrets, secret_text
from shared.destinations.changes import append_change, disable, enable
from shared.destinations.directory import read_disabled
from shared.domain.callback_urls import callback_url_problem
from shared.domain.destinations import DestinationDisabled, DestinationEvent, identify
from shared.events.envelope import format_time
from shared.kafka.producer import LogError, SupervisedProducer
from shared.settings import KafkaSettings

__all__ = ["destinations"]

SOURCE: Final = "/consuma/cli"
SHORTEST_PREFIX: Final = 6
USAGE_ERROR: Final = 2

Result = TypeVar("Result")
Output = Annotated[Literal["table", "json"], Parameter(name=("--output", "-o"), help="Shape of the output.")]
Target = Annotated[
    str, Parameter(help="Id from the list (its first characters suffice), or the exact callback URL.")
]
Submitter = Annotated[str, Parameter(help="Whose callbacks: `rest`, or what a direct producer calls itself.")]
Reason = Annotated[str, Parameter(help="Why; kept in the log and told in dead letters.")]

destinations = App(name="destinations", help="See and change which destinations get no callbacks.")


class UsageError(Exception):
    """What was asked for cannot be meant."""


@destinations.command(name="list")
def list_(*, output: Output = "table") -> None:
    """List the disabled destinations, the latest first."""
    _print(_run(read_disabled(KafkaSettings())), output)


@destinations.command
def show(target: Target, *, submitter: Submitter = "rest", output: Output = "table") -> None:
    """Show one destination: disabled since when, by whom and why, or enabled."""
    found = _run(_find(target, submitter))
    if found is None:
        print(json.dumps({"state": "enabled"}) if output == "json" else "enabled: callbacks are made")
        return
    _print([found], output)


@destinations.command(name="disable")
def disable_(url: str, *, reason: Reason, submitter: Submitter = "rest") -> None:
    """Make no callbacks to URL any more for one submitter; they become dead letters."""
    problem = callback_url_problem(url)
    if problem is not None:
        _fail(f"the URL {problem}", USAGE_ERROR)
    destination, shown = identify(submitter, url)
    event = disable(
        destination, submitter=submitter, url=shown, reason=reason, by=getpass.getuser(), now_ms=_now_ms()
    )
    _run(_append(event))
    print(f"disabled {destination[:12]} {shown} for {submitter}")


@destinations.command(name="enable")
def enable_(target: Target, *, reason: Reason = "", submitter: Submitter = "rest") -> None:
    """Make callbacks to a disabled destination again. What became a dead letter meanwhile stays one."""
    state = _run(_find(target, submitter))
    if state is None:
        print("nothing to do: it is not disabled", file=sys.stderr)
        return
    _run(_append(enable(state, reason=reason, by=getpass.getuser(), now_ms=_now_ms())))
    print(f"enabled {state.destination_id[:12]} {state.url} for {state.submitter}")


@destinations.command
def secret(origin: str) -> None:
    """Print the signing secrets of ORIGIN (scheme://host[:port] or any URL there), the current one first.

    They are derived from CONSUMA_WEBHOOK_MASTER_SECRETS, which has to be that of the callback service; an
    origin with secrets of its own in the file of destinations has those instead.
    """
    try:
        masters = parse_secrets(CallbackHttpSettings().webhook_master_secrets.get_secret_value())
        name = origin_of(URL(origin))
    except SecretError:
        _fail(
            "no master secret here: set CONSUMA_WEBHOOK_MASTER_SECRETS to what the callback service has",
            USAGE_ERROR,
        )
    except ValueError as error:
        _fail(f"{origin!r} is no origin ({error}): give https://host or https://host:port", USAGE_ERROR)
    print(f"signing secrets of {name}:", file=sys.stderr)
    for master in masters:
        print(secret_text(derived_key(master, name)))


async def _find(target: str, submitter: str) -> DestinationDisabled | None:
    """The disabled destination that is meant, or None when it is not disabled."""
    disabled = await read_disabled(KafkaSettings())
    if "://" in target:
        wanted, _ = identify(submitter, target)
        return next((each for each in disabled if each.destination_id == wanted), None)
    if len(target) < SHORTEST_PREFIX:
        raise UsageError(f"{target!r} is neither a URL nor at least {SHORTEST_PREFIX} characters of an id")
    found = [each for each in disabled if each.destination_id.startswith(target)]
    if len(found) > 1:
        raise UsageError(f"{len(found)} ids begin with {target!r}: give more of it")
    return found[0] if found else None


async def _append(event: DestinationEvent) -> None:
    producer = SupervisedProducer(KafkaSettings())
    await producer.start()
    try:
        await append_change(producer, event, source=SOURCE)
    finally:
        await producer.stop()


def _print(found: Sequence[DestinationDisabled], output: Literal["table", "json"]) -> None:
    if output == "json":
        print(json.dumps([_as_json(each) for each in found], ensure_ascii=False, indent=2))
        return
    if not found:
        print("no destination is disabled", file=sys.stderr)
        return
    table = Table("id", "submitter", "url", "disabled", "by", "reason")
    for each in found:
        at = format_time(each.at_ms)
        table.add_row(each.destination_id[:12], each.submitter, each.url, at, each.disabled_by, each.reason)
    Console().print(table, markup=False)


def _as_json(state: DestinationDisabled) -> dict[str, object]:
    fields = asdict(state)
    return {"state": "disabled", **fields, "at": format_time(fields.pop("at_ms"))}


def _run(work: Coroutine[Any, Any, Result]) -> Result:
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # what it retries is no news to a person
    try:
        return asyncio.run(work)
    except UsageError as error:
        _fail(str(error), USAGE_ERROR)
    except (KafkaError, LogError, TimeoutError, OSError) as error:
        _fail(
            f"no answer from Kafka at {KafkaSettings().kafka} ({error!r}): is it running? see CONSUMA_KAFKA",
            1,
        )


def _fail(problem: str, code: int) -> Never:
    print(f"consuma destinations: {problem}", file=sys.stderr)
    raise SystemExit(code)


def _now_ms() -> int:
    return int(time.time() * 1000)
