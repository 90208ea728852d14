"""Signatures that the reference library verifies, during a rotation too, and secrets that are none."""

import base64
import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from standardwebhooks import Webhook, WebhookVerificationError

from services.callback.settings import CallbackSettings
from services.callback.signing import SecretError, Signer, parse_secrets


def secret(byte: bytes, length: int = 32) -> str:
    return "whsec_" + base64.b64encode(byte * length).decode()


OLD, NEW, OTHER = secret(b"o"), secret(b"n"), secret(b"x")


@given(st.dictionaries(st.text(st.characters(codec="utf-8")), st.integers()))
def test_every_secret_signs_so_that_either_end_may_rotate_first(data: dict[str, int]) -> None:
    body = json.dumps(data, ensure_ascii=False)
    headers = Signer(parse_secrets(f"{NEW} {OLD}")).headers("msg-1", int(time.time()), body.encode())
    for known in (OLD, NEW):
        Webhook(known).verify(body, headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(OTHER).verify(body, headers)
    assert (
        headers["webhook-signature"].split()[0]
        == Signer(parse_secrets(NEW)).headers("msg-1", int(headers["webhook-timestamp"]), body.encode())[
            "webhook-signature"
        ]
    )


def test_the_specification_s_own_vector() -> None:
    signer = Signer(parse_secrets("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"))
    headers = signer.headers("msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}')
    assert headers["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "no signing secret"),
        ("   ", "no signing secret"),
        ("hidden", "secret 1 does not start with whsec_"),
        (f"{NEW} whsec_hidden!", "secret 2 is not base64"),
        (secret(b"h", 23), "23 bytes"),
        (secret(b"h", 65), "65 bytes"),
    ],
)
def test_what_is_no_secret_is_refused_without_being_shown(text: str, problem: str) -> None:
    with pytest.raises(SecretError, match=problem) as caught:
        parse_secrets(text)
    assert "hidden" not in str(caught.value)


def test_a_signer_does_not_show_its_keys() -> None:
    assert "nnnn" not in repr(Signer(parse_secrets(NEW)))


@pytest.mark.parametrize("secret", ["mistyped", "whsec_mistyped", "whsec_bWlzdHlwZWQ="])
def test_a_refused_secret_is_not_shown(secret: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONSUMA_WEBHOOK_SECRETS", secret)
    with pytest.raises(ValidationError, match="signing secret 1") as refused:
        CallbackSettings()
    assert secret not in str(refused.value)
