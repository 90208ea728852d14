"""G5: an operation that misbehaves harms only itself, on the real system, with 20 neighbours in flight."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import pytest
from sqlalchemy.engine import URL

from infra.local.services import SERVICES, ServiceSpec
from shared.domain.requests import RequestDeadLettered
from shared.kafka.topics import Topic
from shared.testing.receiver import Receiver
from shared.testing.receiver_calls import ReceiverCalls
from tests.guarantees.support import (
    PATIENCE_S,
    SECRET,
    all_called,
    append,
    events_in,
    running_system,
    system_log,
)
from tests.unit.compute.support import HAZARDS_PATH

pytestmark = [pytest.mark.kafka, pytest.mark.mysql, pytest.mark.slow, pytest.mark.timeout(600)]

NEIGHBOURS: Final = 20
BEHIND: Final = int(os.environ.get("CONSUMA_TEST_BEHIND", "200"))
HEAD_MS: Final = int(os.environ.get("CONSUMA_TEST_HEAD_MS", "12000"))
"""What finishes behind a long request, and how long that is: 2000 and 30000 at full size."""

LIVES_OF_HEAD: Final = 4
"""It is begun anew after each death that it was there for, and once more alone."""

LIMIT_S: Final = 0.5
SOURCE: Final = "isolation-test"
SERVICES_USED: Final = [
    # More slots than neighbours, so that all of them are in flight with the hazard.
    ServiceSpec(name="compute", instances=4, environment={"CONSUMA_SLOTS": "6"}),
    *(each for each in SERVICES if each.name == "callback"),
]
HAZARDS: Final[Mapping[str, tuple[str, Mapping[str, object]]]] = {
    "segfault": ("crashed", {"signal": "SIGSEGV"}),
    "exit_with_3": ("crashed", {"exit_code": 3}),
    "kill_itself": ("crashed", {"signal": "SIGKILL"}),
    "hold_the_channel_and_die": ("crashed", {}),
    "close_every_file": ("crashed", {}),
    "overflow_the_stack": ("crashed", {"signal": "SIGSEGV"}),
    "spin": ("timeout", {"limit_ms": 500}),
    "spin_holding_the_lock": ("timeout", {"limit_ms": 500}),
    "spin_with_a_daemon": ("timeout", {"limit_ms": 500}),
    "eat_memory": ("memory_limit", {}),
    "eat_memory_in_children": ("memory_limit", {"signal": "SIGKILL"}),
    "bomb": ("crashed", {"signal": "SIGKILL"}),
    "raise_error": ("operation_error", {"type": "ValueError"}),
    "recurse": ("operation_error", {"type": "RecursionError"}),
    "return_an_object": ("invalid_result", {}),
    "return_too_much": ("result_too_large", {}),
}
HARMLESS: Final = ("leave_a_thread", "leave_children", "print_a_lot", "print_30_mib")
"""These have a result; their slot is replaced, or their output cut."""


async def test_each_hazard_harms_only_itself(kafka_address: str, mysql_server: URL, tmp_path: Path) -> None:
    log = system_log(kafka_address)
    async with (
        Receiver(secrets=[SECRET], keep_bodies=True) as receiver,
        running_system(log, mysql_server, tmp_path, services=SERVICES_USED, environment=hazards()),
    ):
        calls = ReceiverCalls(receiver)
        for kind in (*HAZARDS, *HARMLESS):
            naps = [nap(f"{kind}-{number}", 300) for number in range(NEIGHBOURS)]
            timeout = {"timeout": LIMIT_S} if kind in HAZARDS and HAZARDS[kind][0] == "timeout" else {}
            await append(
                log, [*naps[:10], hazard(kind, tmp_path, **timeout), *naps[10:]], source=SOURCE, url=calls.url
            )
            outcomes = await all_called(calls, SOURCE, [f"the-{kind}", *(each["id"] for each in naps)])
            assert [each["status"] for each in outcomes[1:]] == ["succeeded"] * NEIGHBOURS, kind
            told(kind, outcomes[0])
        assert all(len(made) == 1 for made in calls.calls().values())


async def test_a_request_that_kills_its_consumer_ends_failed_and_its_neighbours_once(
    kafka_address: str, mysql_server: URL, tmp_path: Path
) -> None:
    log = system_log(kafka_address)
    async with (
        Receiver(secrets=[SECRET], keep_bodies=True) as receiver,
        running_system(log, mysql_server, tmp_path, services=SERVICES_USED, environment=hazards()),
    ):
        calls = ReceiverCalls(receiver)
        head = {**nap("head", HEAD_MS), "timeout": 2 * HEAD_MS / 1000}
        behind = [nap(f"behind-{number}", 0) for number in range(BEHIND)]
        await append(log, [head, *behind], source=SOURCE, url=calls.url, partition=0)
        await all_called(calls, SOURCE, [each["id"] for each in behind])
        await append(log, [hazard("kill_the_consumer", tmp_path)], source=SOURCE, url=calls.url, partition=0)
        neighbours = [nap(f"neighbour-{number}", 200) for number in range(NEIGHBOURS)]
        await append(log, neighbours, source=SOURCE, url=calls.url, partition=0)
        innocents = ["head", *(each["id"] for each in neighbours)]
        told = await all_called(calls, SOURCE, innocents, PATIENCE_S + LIVES_OF_HEAD * HEAD_MS / 1000)
        assert {each["status"] for each in told} == {"succeeded"}
        (poison,) = await all_called(calls, SOURCE, ["the-kill_the_consumer"])
        assert poison["status"] == "failed"
        assert poison["error"]["code"] == "poison"
        letters = await events_in(log, Topic.REQUESTS_DLQ)
        assert [each.reason for each in letters if isinstance(each, RequestDeadLettered)] == ["poison"]
        assert all(len(made) == 1 for made in calls.calls().values())


def hazards() -> Mapping[str, str]:
    return {"PYTHONPATH": str(HAZARDS_PATH)}


def nap(reference: str, ms: int) -> dict[str, Any]:
    return {"operation": "nap", "input": {"ms": ms, "value": 1}, "id": reference}


def hazard(kind: str, directory: Path, **fields: object) -> dict[str, Any]:
    note = directory / "note"
    return {"operation": "hazard", "input": {"kind": kind, "note": str(note)}, "id": f"the-{kind}", **fields}


def told(kind: str, outcome: Mapping[str, Any]) -> None:
    """The outcome names what happened."""
    if kind in HARMLESS:
        assert outcome["status"] == "succeeded", outcome
        return
    code, details = HAZARDS[kind]
    assert outcome["status"] == "failed", (kind, outcome)
    assert outcome["error"]["code"] == code, outcome
    assert details.items() <= outcome["error"].items(), outcome
