"""What docs/callbacks.md shows works, and names what exists."""

import re
import time
from pathlib import Path

import pytest

from services.callback.http_settings import CallbackHttpSettings
from services.callback.origins import load_origins
from services.callback.signing import Signer, parse_secrets
from shared.testing.receiver_behaviour import Behaviour, Deed
from tests.unit.callback_http.test_signing import NEW, OLD

TEXT = (Path(__file__).parents[3] / "docs" / "callbacks.md").read_text()


def block(language: str, containing: str) -> str:
    blocks: list[str] = re.findall(rf"```{language}\n(.*?)```", TEXT, re.DOTALL)
    return next(each for each in blocks if containing in each)


def test_the_verification_that_it_shows_verifies() -> None:
    shown: dict[str, object] = {}
    exec(block("python", "def is_genuine"), shown)  # noqa: S102 - our own documentation
    is_genuine = shown["is_genuine"]
    assert callable(is_genuine)
    signer = Signer(parse_secrets(f"{NEW} {OLD}"))
    fresh = signer.headers("msg-1", int(time.time()), b"{}")
    assert is_genuine(NEW, fresh, b"{}")
    assert is_genuine(OLD, fresh, b"{}")
    assert not is_genuine(NEW, fresh, b"{ }")
    assert not is_genuine(NEW, signer.headers("msg-1", int(time.time()) - 400, b"{}"), b"{}")


def test_the_file_that_it_shows_is_read(tmp_path: Path) -> None:
    path = tmp_path / "destinations.toml"
    path.write_text(block("toml", "origins").replace("whsec_…", OLD).replace("Bearer …", "Bearer x"))
    settings = CallbackHttpSettings(webhook_secrets=NEW, destinations_file=path)
    assert load_origins(settings).of("https://receiver.example/").limits.rate == 10.0


@pytest.mark.parametrize("name", CallbackHttpSettings.model_fields)
def test_every_setting_of_ours_is_named(name: str) -> None:
    ours = name.startswith(("callback_", "breaker_", "webhook_", "destinations_"))
    short = "_" + name.removeprefix("callback_").upper()
    assert not ours or f"CONSUMA_{name.upper()}" in TEXT or f"…{short}" in TEXT


def test_every_deed_of_the_receiver_is_named() -> None:
    named = {*Deed, *Behaviour.__dataclass_fields__} - {Deed.ANSWER}
    assert {each for each in named if f"`{each}`" not in TEXT} == set()
