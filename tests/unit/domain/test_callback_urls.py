"""A callback URL is refused at submission when nobody could ever call it, or nobody should."""

import pytest

from shared.domain.callback_urls import callback_url_problem, shown_url


@pytest.mark.parametrize(
    "url",
    [
        "http://h",
        "https://example.org:8443/x?y=1",
        "http://[::1]:9000/hook",
        "http://127.0.0.1:1/",
        "http://127.1/",  # called, it is forbidden with the reason
        "http://0x7f.1/",
        "http://h.example./",
        "http://a_b.example/",
        "http://bücher.example/",
        "http://xn--bcher-kva.example/",
        "http://１２７.0.0.1/",  # noqa: RUF001 - a notation that some resolver understands
        "http://3com.example/",
    ],
)
def test_usable_urls_pass(url: str) -> None:
    assert callback_url_problem(url) is None


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("ftp://h/x", "http://"),
        ("//h/x", "http://"),
        ("http://user:secret@h/x", "user name"),
        ("http://@h/x", "user name"),
        ("http:///x", "no host"),
        ("http://h:99999/", "not a URL"),
        ("http://h:0/", "port 0"),
        ("http://[::1/", "not a URL"),
        ("http://08.8.8.8/", "no address"),
        ("http://1.2.3.4.5/", "no address"),
        ("http://4294967297/", "no address"),
        ("http://host.0x1ffffffff/", "no address"),
        ("http://xn--a00|/", "character"),
        ("http://a%41b/", "character"),
        ("http://a..b/", "63"),
        ("http://./", "63"),
        ("http://" + "a" * 64 + ".example/", "63"),
        ("http://" + "a." * 130 + "example/", "253"),
        ("http://h/a b", "space"),
        ("http://h/\n", "control"),
        ("http://h/" + "x" * 2048, "longer"),
    ],
)
def test_others_are_refused_with_the_reason(url: str, words: str) -> None:
    problem = callback_url_problem(url)
    assert problem is not None
    assert words in problem


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://hooks.slack.com/services/T0/B0/secret", "https://hooks.slack.com/services/…"),
        ("https://discord.com/api/webhooks/1/secret", "https://discord.com/api/…"),
        ("https://a.office.com/webhookb2/secret/IncomingWebhook/x", "https://a.office.com/webhookb2/…"),
        ("https://webhook.site/7b3c1c0e-6c0a-4d3b-9d6e-2f6a1b7c8d90", "https://webhook.site/…"),
        ("https://user:secret@h:8443/hook?token=secret#secret", "https://h:8443/hook?…"),
        ("http://h/hook/", "http://h/hook"),
        ("http://h/", "http://h/"),
        ("http://h", "http://h"),
        ("http://[h/secret", "(not a URL)"),
    ],
)
def test_what_may_be_a_credential_is_not_shown(url: str, shown: str) -> None:
    assert shown_url(url) == shown
