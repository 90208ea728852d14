"""G8: what is oversized, malformed, forged or forbidden gets a clear answer, stops nothing and leaks nothing.

On the real system. A name that turns from a public address to a private one needs a name server of the
test's own: tests/integration/callback_http/test_safety.py has it.
"""

import asyncio
import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import httpx
import pytest
from confluent_kafka import KafkaError
from sqlalchemy.engine import URL

from shared.domain.callbacks import DeliveryDeadLettered
from shared.events.codec import Event
from shared.kafka.topics import Topic
from shared.settings import KafkaSettings
from shared.testing.receiver import Receiver
from shared.testing.receiver_calls import ReceiverCalls
from tests.guarantees.support import PATIENCE_S, SECRET, all_called, events_in, running_system, system_log
from tests.integration.producers.support import HASH, Outcomes, Sender, envelope
from tests.support.waiting import until

pytestmark = [pytest.mark.kafka, pytest.mark.mysql, pytest.mark.slow, pytest.mark.timeout(300)]

ASYNC: Final = "/v1/requests/async"
JSON: Final = {"Content-Type": "application/json"}
SOURCE: Final = "hostile-test"
HIDDEN: Final = "hunter2"
BODY_LIMIT: Final = 1024 * 1024
BOMB_BYTES: Final = 100_000_000


@dataclass(frozen=True, kw_only=True)
class Refused:
    """What is sent to the API and how it is answered."""

    status: int
    code: str
    content: bytes
    headers: dict[str, str] = field(default_factory=lambda: JSON)
    named: str | None = None


@dataclass(frozen=True, kw_only=True)
class Rejected:
    """A record, and the reason in its dead letter; without one the record is a request like any other."""

    value: bytes | None
    reason: str | None
    headers: dict[str, str] = field(default_factory=dict)


def body(**fields: object) -> bytes:
    return json.dumps({**HASH, **fields}).encode()


def deep(levels: int) -> bytes:
    return b'{"operation":"hash_chain","input":' + b"[" * levels + b"]" * levels + b"}"


OVER_HTTP: Final = (
    Refused(status=413, code="body_too_large", content=body().ljust(BODY_LIMIT + 1)),
    Refused(
        status=415, code="unsupported_media_type", content=body(), headers={"Content-Type": "text/plain"}
    ),
    Refused(
        status=415,
        code="unsupported_media_type",
        content=b"\x1f\x8b",
        headers={**JSON, "Content-Encoding": "gzip"},
    ),
    Refused(status=400, code="malformed_json", content=b"{"),
    Refused(status=400, code="malformed_json", content=deep(100_000)),
    Refused(status=400, code="malformed_json", content=b'{"operation":"hash_chain","input":{"seed":NaN}}'),
    Refused(status=422, code="unknown_operation", content=body(operation="nope"), named="operation"),
    Refused(status=422, code="invalid_input", content=body(input={"seed": 7}), named="input.seed"),
    Refused(status=422, code="invalid_request", content=body(source="/consuma/ingest"), named="source"),
    Refused(status=422, code="invalid_request", content=body(expires_at="tomorrow"), named="expires_at"),
    Refused(
        status=422,
        code="invalid_request",
        content=body(callback_url=f"https://user:{HIDDEN}@example.com/"),
        named="callback_url",
    ),
    Refused(status=422, code="invalid_request", content=body(callback_url="ftp://x/"), named="callback_url"),
)

OVER_KAFKA: Final = (
    Rejected(value=None, reason="malformed_json"),
    Rejected(value=b"\x00\xff", reason="malformed_json"),
    Rejected(value=b"[" * 900_000, reason="malformed_json"),
    Rejected(value=deep(100_000), reason="malformed_json"),
    Rejected(value=b"[]", reason="invalid_request"),
    Rejected(value=body(callback_url=f"http://user:{HIDDEN}@x/"), reason="invalid_request"),
    Rejected(
        value=b"{}", reason="invalid_envelope", headers={"content-type": "application/cloudevents+json"}
    ),
    Rejected(
        value=body(),
        reason="unknown_event_type",
        headers={**envelope(SOURCE, "x"), "ce_type": "something.else"},
    ),
    Rejected(value=body(id="no-such", source=SOURCE, operation="nope"), reason="unknown_operation"),
    Rejected(value=body(id="bad-input", source=SOURCE, input={"seed": 7}), reason="invalid_input"),
    Rejected(
        value=body(), reason=None, headers=envelope(SOURCE, "long-trace", traceparent="00-" + "f" * 30_000)
    ),
    Rejected(
        value=body(), reason=None, headers=envelope(SOURCE, "far-future", ce_time="9999-12-31T23:59:59Z")
    ),
)

FORBIDDEN: Final = (
    "http://169.254.169.254/latest/meta-data",
    "http://2852039166/",
    "http://0xa9.0xfe.0xa9.0xfe/",
    "http://[::ffff:169.254.169.254]/",
    "http://[64:ff9b::a9fe:a9fe]/",
    "http://[fe80::1]/",
    "http://10.0.0.1/",
    "http://0.0.0.0/",
    "http://224.0.0.1/",
    f"http://192.168.0.1/hook?token={HIDDEN}",
)
"""The metadata service in five notations, and what else is not public."""


async def test_hostile_input_is_answered_and_stops_nothing(
    kafka_address: str, mysql_server: URL, tmp_path: Path
) -> None:
    log = system_log(kafka_address)
    async with (
        Receiver(secrets=[SECRET], keep_bodies=True) as receiver,
        running_system(log, mysql_server, tmp_path) as system,
        httpx.AsyncClient(base_url=system.api, timeout=PATIENCE_S) as api,
        Outcomes(log) as outcomes,
    ):
        calls = ReceiverCalls(receiver)
        await the_api_names_what_is_wrong(api)
        await no_record_stops_its_partition(log, outcomes, calls)
        await nothing_forbidden_is_called(log, api, receiver, calls)
        assert all(len(made) == 1 for made in calls.calls().values())
        no_log_tells_a_secret(tmp_path)


async def the_api_names_what_is_wrong(api: httpx.AsyncClient) -> None:
    for case in OVER_HTTP:
        answer = await api.post(ASYNC, content=case.content, headers=case.headers)
        assert answer.headers["content-type"] == "application/problem+json", case
        problem = answer.json()
        assert (answer.status_code, problem["code"]) == (case.status, case.code), problem
        assert problem["detail"]
        if case.named:
            assert case.named in [each["field"] for each in problem["errors"]], problem
        assert HIDDEN not in answer.text
    listed = await api.get("/v1/requests")
    assert listed.json()["items"] == [], "what was refused is no request"


async def no_record_stops_its_partition(log: KafkaSettings, outcomes: Outcomes, calls: ReceiverCalls) -> None:
    """All of it in one partition, a request behind every piece; repeats of an id change nothing."""
    sender = Sender(log)
    for number, case in enumerate(OVER_KAFKA):
        sender.send(case.value, headers=case.headers, partition=0)
        sender.send(json.loads(body(id=f"good-{number}", source=SOURCE, callback_url=calls.url)), partition=0)
    for _ in range(3):
        sender.send(json.loads(body(id="good-0", source=SOURCE, callback_url=calls.url)), partition=0)
    await sender.flush()
    config: dict[str, str | int] = {"compression.type": "zstd", "message.max.bytes": 2 * BOMB_BYTES}
    bomber = Sender(log, **config)
    bomber.send(b" " * BOMB_BYTES, partition=0)
    await bomber.flush()
    assert bomber.refused == [KafkaError.MSG_SIZE_TOO_LARGE]
    sender.send(json.loads(body(id="last", source=SOURCE, callback_url=calls.url)), partition=0)
    await sender.flush()
    goods = [*(f"good-{number}" for number in range(len(OVER_KAFKA))), "last"]
    told = await all_called(calls, SOURCE, goods)
    assert [each["status"] for each in told] == ["succeeded"] * len(goods)
    reasons = sorted(case.reason for case in OVER_KAFKA if case.reason)
    await until(lambda: len(outcomes.letters) >= len(reasons), PATIENCE_S)
    assert sorted(letter.reason for letter in outcomes.letters) == reasons
    assert all(letter.message and letter.origin for letter in outcomes.letters)
    await outcomes.until_known("long-trace", "far-future")


async def nothing_forbidden_is_called(
    log: KafkaSettings, api: httpx.AsyncClient, receiver: Receiver, calls: ReceiverCalls
) -> None:
    """Neither in any notation nor by a redirect, whoever asks for it."""
    away = receiver.url("/moved", status=302, location=calls.url)
    for number, url in enumerate((*FORBIDDEN, away)):
        answer = await api.post(
            ASYNC, content=body(callback_url=url, client_reference=str(number)), headers=JSON
        )
        assert answer.status_code == 202, (url, answer.text)
    letters: list[Event] = []
    async with asyncio.timeout(PATIENCE_S):
        while len(letters) < len(FORBIDDEN) + 1:
            letters = await events_in(log, Topic.CALLBACKS_DLQ)
    reasons = Counter(letter.reason for letter in letters if isinstance(letter, DeliveryDeadLettered))
    assert reasons == {"forbidden": len(FORBIDDEN), "terminal": 1}
    moved = [call for call in receiver.calls if call.path == "/moved"]
    assert len(moved) == 1, "a redirect is neither followed nor tried again"


def no_log_tells_a_secret(directory: Path) -> None:
    logs = [path.read_text("utf-8", "replace") for path in directory.rglob("*.log")]
    assert any("callback" in text for text in logs), "the services write logs"
    assert not [text for text in logs if HIDDEN in text or SECRET.removeprefix("whsec_") in text]
