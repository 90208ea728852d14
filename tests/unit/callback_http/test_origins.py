"""The file of destinations: read once, checked whole, and its mistakes named without what may be secret."""

import json
import time
from pathlib import Path

import pytest
from standardwebhooks import Webhook, WebhookVerificationError
from yarl import URL

from services.callback.http_settings import CallbackHttpSettings
from services.callback.origins import OriginsError, load_origins, origin_of
from services.callback.signing import SecretError
from tests.unit.callback_http.test_signing import NEW, OLD

GOOD = f"""
[origins."https://Receiver.example:443"]
secrets = ["{OLD}", "{NEW}"]
concurrency = 2
queue = 0
rate = 1.5
timeout_ms = 1000
headers = {{ X-Tenant = "a" }}

[origins."http://10.0.0.1:8080"]
secrets = "{OLD}"
"""


def settings(path: Path | None = None, **more: object) -> CallbackHttpSettings:
    return CallbackHttpSettings(webhook_secrets=NEW, destinations_file=path, **more)  # type: ignore[arg-type]


def test_an_origin_has_its_own_settings_and_the_general_ones_besides(tmp_path: Path) -> None:
    path = tmp_path / "destinations.toml"
    path.write_text(GOOD)
    origins = load_origins(settings(path))
    own = origins.of("https://receiver.example/a?b")
    assert own.name == "https://receiver.example"
    assert (own.limits.concurrency, own.limits.queue, own.limits.rate) == (2, 0, 1.5)
    assert (own.timeout_s, dict(own.headers), len(own.signer.keys)) == (1.0, {"X-Tenant": "a"}, 2)
    other = origins.of("http://10.0.0.1:8080/")
    assert (other.limits.concurrency, other.timeout_s, len(other.signer.keys)) == (8, 30.0, 1)
    anybody = origins.of("http://receiver.example/")
    assert (anybody.name, len(anybody.signer.keys)) == ("http://receiver.example", 1)


def test_json_is_read_too(tmp_path: Path) -> None:
    path = tmp_path / "destinations.json"
    path.write_text(json.dumps({"origins": {"http://h:1": {"concurrency": 3}}}))
    assert load_origins(settings(path)).of("http://h:1/x").limits.concurrency == 3


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("origins = 7", "origins: "),
        ("nonsense = [", "Expected|Invalid|Unclosed"),
        ('[origins."https://h"]\nconcurency = 2', "origins.https://h.concurency: Extra inputs"),
        ('[origins."https://h"]\nconcurrency = 0', "concurrency: Input should be greater"),
        ('[origins."https://h"]\nqueue = 251', "longer than CONSUMA_CALLBACK_QUEUE, which is 250"),
        ('[origins."https://h/path"]', "nothing more"),
        ('[origins."https://h?token=hidden"]', "nothing more"),
        ('[origins."ftp://h"]', "nothing more"),
        ('[origins."h"]', "no origin"),
        ('[origins."https://h"]\nsecrets = "hidden"', "does not start with whsec_"),
        ('[origins."https://h"]\nsecrets = 5', "secrets"),
        ('[origins."https://h"]\nheaders = {Host = "hidden"}', "cannot be set"),
        ('[origins."https://h"]\nheaders = {webhook-id = "hidden"}', "cannot be set"),
        ('[origins."https://h"]\nheader_paths = []', "header_paths"),
        ('[origins."https://h"]\nheader_paths = ["a"]', "plain beginning"),
        ('[origins."https://h"]\nheader_paths = ["/a/../b/"]', "plain beginning"),
        ('[origins."https://h"]\nheaders = {"a b" = "hidden"}', "no name of a header"),
        ('[origins."https://h"]\nheaders = {A = "hidden\\r\\nB: c"}', "has characters"),
    ],
)
def test_a_mistake_is_named_and_no_value_shown(tmp_path: Path, text: str, problem: str) -> None:
    path = tmp_path / "destinations.toml"
    path.write_text(text)
    with pytest.raises(OriginsError, match=problem) as caught:
        load_origins(settings(path))
    assert "hidden" not in str(caught.value)


def test_a_file_that_is_absent_is_named(tmp_path: Path) -> None:
    with pytest.raises(OriginsError, match=r"absent\.toml.*CONSUMA_DESTINATIONS_FILE"):
        load_origins(settings(tmp_path / "absent.toml"))


def test_nothing_is_sent_unsigned() -> None:
    with pytest.raises(SecretError, match="CONSUMA_WEBHOOK_SECRETS"):
        load_origins(CallbackHttpSettings(webhook_secrets=""))


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("https://H.example/x?y", "https://h.example"),
        ("HTTPS://h.example:443/", "https://h.example"),
        ("http://h.example:443/", "http://h.example:443"),
        ("http://[::1]:80/", "http://[::1]"),
        ("http://bücher.example/", "http://xn--bcher-kva.example"),
        ("http://h.example./", "http://h.example"),
        ("http://h.example...:8080/", "http://h.example:8080"),
    ],
)
def test_an_origin_has_one_name(url: str, origin: str) -> None:
    assert origin_of(URL(url)) == origin


@pytest.mark.parametrize(
    ("path", "has_them"),
    [
        ("/hooks/", True),
        ("/hooks/a?b=/../c%2F", True),
        ("/v1/callbacks", True),
        ("/v1/callbacks-of-others", True),
        ("/", False),
        ("/hooks", False),
        ("/Hooks/a", False),
        ("/x?/hooks/", False),
        ("/hooks/../admin", False),
        ("/hooks/%2e%2E/admin", False),
        ("/hooks/..%2fadmin", False),
        ("/hooks/%252e%252e/admin", False),
        ("/hooks/..", False),
        ("/hooks/.\\admin", False),
        ("/hooks/..;/admin", False),
        ("/hooks//admin", False),
        ("/%68ooks/a", False),
    ],
)
def test_headers_of_an_origin_go_to_the_paths_they_are_meant_for(
    tmp_path: Path, path: str, *, has_them: bool
) -> None:
    file = tmp_path / "destinations.toml"
    file.write_text(
        '[origins."https://h"]\nheaders = {Authorization = "Bearer x"}\n'
        'header_paths = ["/hooks/", "/v1/callbacks"]'
    )
    url = f"https://h{path}"
    assert bool(load_origins(settings(file)).of(url).headers_for(url)) is has_them


def test_headers_go_everywhere_unless_they_are_limited(tmp_path: Path) -> None:
    file = tmp_path / "destinations.toml"
    file.write_text(GOOD)
    url = "https://receiver.example/any/../path"
    assert load_origins(settings(file)).of(url).headers_for(url) == {"X-Tenant": "a"}


MASTER, NEXT = "whsec_" + "bWFz" * 8, "whsec_" + "bmV4" * 8
VECTORS = {
    "https://receiver.example": "whsec_gq+keEu1+t5C7xl6x56X7mCS+cUByy5S+sp5zyTA/2o=",
    "http://receiver.example": "whsec_SV2Lm3akSLo22gU0und7lDw9JwBddafcTt/PqajZW4E=",
    "https://receiver.example:8443": "whsec_wRpnVhPBAjLRVIDTjtOl+kOicElNYqfSonxaUbe/QYY=",
    "https://xn--bcher-kva.example": "whsec_UhA+NNatYAX2zPuCY7mqjB6kX/9c9kub1QDq/tKfb9Q=",
}
"""Secrets that receivers have been given: no release may derive others."""


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("https://receiver.example/hook?a=b", "https://receiver.example"),
        ("https://RECEIVER.example:443/", "https://receiver.example"),
        ("https://receiver.example./", "https://receiver.example"),
        ("http://receiver.example/", "http://receiver.example"),
        ("https://receiver.example:8443/", "https://receiver.example:8443"),
        ("https://bücher.example/", "https://xn--bcher-kva.example"),
    ],
)
def test_with_a_master_each_origin_has_a_secret_of_its_own(url: str, origin: str) -> None:
    origins = load_origins(CallbackHttpSettings(webhook_master_secrets=f"{MASTER} {NEXT}"))
    headers = origins.of(url).signer.headers("id", int(time.time()), b"{}")
    Webhook(VECTORS[origin]).verify("{}", headers)
    for other in VECTORS.keys() - {origin}:
        with pytest.raises(WebhookVerificationError):
            Webhook(VECTORS[other]).verify("{}", headers)
    assert len(headers["webhook-signature"].split()) == 2


def test_secrets_of_the_file_come_before_the_master_s(tmp_path: Path) -> None:
    path = tmp_path / "destinations.toml"
    path.write_text(f'[origins."https://own.example"]\nsecrets = "{NEXT}"')
    general = CallbackHttpSettings(
        destinations_file=path, webhook_master_secrets=MASTER, webhook_secrets=f"{MASTER}"
    )
    headers = load_origins(general).of("https://own.example/x").signer.headers("id", int(time.time()), b"{}")
    Webhook(NEXT).verify("{}", headers)
