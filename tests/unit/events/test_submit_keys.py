"""Only holders of a key submit as ingest; whoever claims to be ingest without one is a direct producer."""

import hashlib
import hmac
import json
from base64 import b64decode, b64encode
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from services.compute.settings import ComputeSettings
from shared.domain.identity import id_of_idempotency_key, id_of_reference
from shared.domain.types import Mode, RequestId
from shared.events.codec import Origin
from shared.events.submission import (
    INGEST_SOURCE,
    ReplyTo,
    RequestData,
    decode_submission,
    encode_submission,
)
from shared.events.submit_keys import SIGNATURE_HEADER, SubmitKeyError, SubmitKeys
from shared.kafka.records import Headers, Record

GOLDEN = Path(__file__).parent / "golden"
VICTIM = id_of_idempotency_key("shop", "order-1234")
AT_MS = 1_700_000_000_000
REPLY_TO = ReplyTo(topic="t.replies", correlation_id=b"\x00\xff", partition=3)


def key(letter: str, size: int = 32) -> str:
    return "subkey_" + b64encode(letter.encode() * size).decode()


KEYS = SubmitKeys.parse(key("a"))


def written(keys: SubmitKeys = KEYS, mode: Mode = Mode.ASYNC, reply_to: ReplyTo | None = None) -> Record:
    """What ingest writes about the victim's request."""
    data = RequestData(operation="primes", input=msgspec.Raw(b'{"n":1}'), source="rest", digest="0" * 64)
    origin = Origin(event_id="e-1", source=INGEST_SOURCE, now_ms=AT_MS)
    event = encode_submission(VICTIM, data, origin, mode, reply_to, keys)
    return Record("t.requests", 0, 1, AT_MS, event.key, event.value, event.headers)


def id_in(record: Record, mode: Mode = Mode.ASYNC, keys: SubmitKeys = KEYS) -> RequestId:
    return decode_submission(record, mode, keys).request.request_id


def with_header(record: Record, name: str, value: bytes) -> Record:
    others = tuple(each for each in record.headers if each[0] != name)
    return replace(record, headers=(*others, (name, value)))


@pytest.mark.parametrize("reply_to", [None, REPLY_TO, replace(REPLY_TO, partition=None)], ids=str)
@pytest.mark.parametrize("mode", Mode)
def test_what_ingest_signs_is_believed(mode: Mode, reply_to: ReplyTo | None) -> None:
    found = decode_submission(written(KEYS, mode, reply_to), mode, KEYS)
    assert (found.request.request_id, found.request.source, found.request.digest) == (
        VICTIM,
        "rest",
        "0" * 64,
    )
    assert found.reply_to == reply_to


FORGERIES: dict[str, Record] = {
    "no signature": written(SubmitKeys()),
    "another key": written(SubmitKeys.parse(key("x"))),
    "another value": replace(written(), value=(written().value or b"").replace(b"1}", b"2}")),
    "another id": with_header(written(), "ce_subject", b"3f0f3c0e-6c0a-5d3b-9d6e-2f6a1b7c8d90"),
    "a reply that was not asked for": replace(
        written(), headers=(*written().headers, ("reply-topic", b"t.replies.mine"))
    ),
    "a reply to another topic": with_header(written(reply_to=REPLY_TO), "reply-topic", b"t.replies.mine"),
    "a reply to another caller": with_header(written(reply_to=REPLY_TO), "correlation-id", b"mine"),
    "a reply to another partition": with_header(written(reply_to=REPLY_TO), "reply-partition", b"4"),
    "the topic of the other mode": written(mode=Mode.SYNC),
    "an unknown version": with_header(written(), SIGNATURE_HEADER, b"v2,abc"),
    "no text": with_header(written(), SIGNATURE_HEADER, b"v1,\xff\x00"),
    "nothing": with_header(written(), SIGNATURE_HEADER, b""),
}


@pytest.mark.parametrize("forged", FORGERIES.values(), ids=FORGERIES)
def test_whoever_only_claims_to_be_ingest_is_a_direct_producer(forged: Record) -> None:
    """The id is derived from source and event id, as anybody's; the digest is not taken over."""
    request = decode_submission(forged, Mode.ASYNC, KEYS).request
    assert request.request_id == id_of_reference(INGEST_SOURCE, "e-1")
    assert request.source == INGEST_SOURCE
    assert request.digest != "0" * 64


def test_a_forger_who_repeats_himself_makes_one_request() -> None:
    forged = FORGERIES["no signature"]
    assert id_in(forged) == id_in(replace(forged, offset=99, timestamp_ms=AT_MS + 5))


def test_every_key_verifies_and_the_first_one_signs() -> None:
    """Rotation: the new key is first put last everywhere, then first, and the old one stays in the list."""
    old, new = key("a"), key("b")
    before, during, after = (SubmitKeys.parse(each) for each in (old, f"{old} {new}", f" {new}\n{old} "))
    assert dict(written(during).headers) == dict(written(before).headers)
    assert dict(written(after).headers) != dict(written(before).headers)
    for signer in (before, during, after):
        for reader in (during, after):
            assert id_in(written(signer), keys=reader) == VICTIM


def test_what_was_written_before_there_was_a_key_keeps_its_id() -> None:
    """By the broker's time: no producer can date its record back, not even where its time is kept."""
    unsigned = replace(written(SubmitKeys()), log_append_time=True)
    until = datetime.fromtimestamp((AT_MS + 1) / 1000, UTC)
    keys = SubmitKeys.parse(key("a"), until)
    assert id_in(unsigned, keys=keys) == VICTIM
    assert id_in(replace(unsigned, timestamp_ms=AT_MS + 1), keys=keys) != VICTIM
    assert id_in(replace(unsigned, log_append_time=False), keys=keys) != VICTIM


def test_without_any_key_ingest_is_taken_at_its_word() -> None:
    assert id_in(written(SubmitKeys()), keys=SubmitKeys()) == VICTIM
    assert id_in(written(KEYS), keys=SubmitKeys()) == VICTIM
    assert SIGNATURE_HEADER not in dict(written(SubmitKeys()).headers)


@given(st.binary(min_size=24, max_size=64), st.lists(st.text(), max_size=4), st.binary())
def test_a_signature_is_hmac_sha256_of_what_decides_and_the_value(
    secret: bytes, about: list[str], value: bytes
) -> None:
    keys = SubmitKeys.parse("subkey_" + b64encode(secret).decode())
    signature = keys.sign(tuple(about), value)
    assert signature is not None
    signed = msgspec.msgpack.encode(tuple(about)) + value
    assert b64decode(signature.removeprefix(b"v1,")) == hmac.digest(secret, signed, hashlib.sha256)
    assert keys.believe(signature, tuple(about), value, 1)


def test_the_signed_submission_is_written_and_read_as_its_golden_file_says() -> None:
    record = written(KEYS, Mode.SYNC, replace(REPLY_TO, correlation_id=b"c-1"))
    found = {
        "key": (record.key or b"").decode(),
        "headers": {name: value.decode() for name, value in record.headers},
        "value": (record.value or b"").decode(),
    }
    golden = json.loads((GOLDEN / "consuma.request.submitted.v1.signed.json").read_text(encoding="utf-8"))
    assert found == golden
    headers: Headers = tuple((name, value.encode()) for name, value in golden["headers"].items())
    assert id_in(replace(record, headers=headers, value=golden["value"].encode()), Mode.SYNC) == VICTIM


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("whsec_" + "A" * 44, "1 of CONSUMA_SUBMIT_KEYS does not start"),
        (key("a") + " subkey_!", "2 of CONSUMA_SUBMIT_KEYS is not base64"),
        (key("a", 23), "has 23 bytes"),
        (key("a", 65), "has 65 bytes"),
    ],
)
def test_a_key_that_is_none_is_refused_at_the_start_and_not_shown(
    text: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SubmitKeyError, match=words):
        SubmitKeys.parse(text)
    monkeypatch.setenv("CONSUMA_SUBMIT_KEYS", text)
    with pytest.raises(ValidationError, match=words) as refused:
        ComputeSettings()
    assert text.split()[-1] not in str(refused.value)


def test_settings_say_until_when_records_were_unsigned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONSUMA_SUBMIT_KEYS", key("a"))
    monkeypatch.setenv("CONSUMA_SUBMIT_UNSIGNED_UNTIL", "2023-11-14T22:13:20.001Z")
    assert ComputeSettings().keys().unsigned_until_ms == AT_MS + 1
    monkeypatch.setenv("CONSUMA_SUBMIT_UNSIGNED_UNTIL", "2023-11-14T22:13:20")
    with pytest.raises(ValidationError, match="submit_unsigned_until"):
        ComputeSettings()
