"""A tier's record tells when it is due without being decoded; those of earlier releases are."""

import json
from pathlib import Path

import pytest

from services.callback.ports import WaitsFor
from services.callback.schedule import Schedule, read_schedule, waits_for_headers
from shared.events.envelope import Headers
from shared.kafka.records import Record

GOLDEN = Path(__file__).parents[1] / "events" / "golden"


def _record(headers: Headers, value: bytes | None) -> Record:
    return Record("consuma.callbacks.retry.1s", 0, 7, 1_000, b"k", value, headers)


def _golden(name: str) -> tuple[Headers, bytes]:
    golden = json.loads((GOLDEN / f"{name}.json").read_text("utf-8"))
    return tuple((key, value.encode()) for key, value in golden["headers"].items()), golden["value"].encode()


def test_the_headers_tell_and_the_body_is_not_looked_at() -> None:
    headers, _ = _golden("consuma.delivery.postponed.v1")
    assert read_schedule(_record(headers, b"not looked at")) == Schedule(1_700_000_005_000)


def test_a_record_of_an_earlier_release_is_decoded() -> None:
    assert read_schedule(_record(*_golden("consuma.delivery.postponed.v1.unscheduled"))) == Schedule(
        1_700_000_005_000
    )


def test_a_deferred_delivery_names_its_destination() -> None:
    waits_for = WaitsFor("https://receiver.example", "d-1")
    headers = (("not-before", b"12"), *waits_for_headers(waits_for))
    assert read_schedule(_record(headers, None)) == Schedule(12, waits_for)


@pytest.mark.parametrize("text", [b"", b"soon", b"-1", b"1e3", "\u0661".encode(), b"9" * 5_000, b"\xff"])
def test_what_is_no_time_is_looked_for_in_the_body(text: bytes) -> None:
    _, value = _golden("consuma.delivery.postponed.v1")
    headers, _ = _golden("consuma.delivery.postponed.v1.unscheduled")
    assert read_schedule(_record((("not-before", text), *headers), value)) == Schedule(1_700_000_005_000)


@pytest.mark.parametrize("value", [None, b"junk"])
def test_what_cannot_be_read_has_no_time(value: bytes | None) -> None:
    assert read_schedule(_record((), value)) is None
