"""`consuma destinations secret`: what to give to a receiver, and what to do where nothing can be given."""

import pytest

from infra.cli.destinations import secret

MASTER, NEXT = "whsec_" + "bWFz" * 8, "whsec_" + "bmV4" * 8


def test_secrets_are_all_that_standard_output_gets(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CONSUMA_WEBHOOK_MASTER_SECRETS", f"{MASTER} {NEXT}")
    secret("https://receiver.example/hook")
    out, said = capsys.readouterr()
    first, second = out.splitlines()
    assert first == "whsec_gq+keEu1+t5C7xl6x56X7mCS+cUByy5S+sp5zyTA/2o="
    assert second.startswith("whsec_")
    assert "https://receiver.example:" in said


@pytest.mark.parametrize(
    ("master", "origin", "problem"),
    [("", "https://h", "set CONSUMA_WEBHOOK_MASTER_SECRETS"), (MASTER, "h", "give https://host")],
)
def test_a_mistake_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    master: str,
    origin: str,
    problem: str,
) -> None:
    monkeypatch.setenv("CONSUMA_WEBHOOK_MASTER_SECRETS", master)
    with pytest.raises(SystemExit) as caught:
        secret(origin)
    assert caught.value.code == 2
    assert problem in capsys.readouterr().err
