"""A URL is called as it was given, byte for byte; only its host is written in the one way."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from yarl import URL

from services.callback.targets import call_url

S3 = (
    "/bucket/a%2Fb/key%20with%2Bplus.json?X-Amz-Algorithm=AWS4-HMAC-SHA256"
    "&X-Amz-Credential=AKIA%2F20260101%2Feu-west-1%2Fs3%2Faws4_request&X-Amz-Date=20260101T000000Z"
    "&X-Amz-Expires=3600&X-Amz-SignedHeaders=host&X-Amz-Signature=0a1b"
)
GCS = (
    "/bucket/o/%7Etilde%21?X-Goog-Algorithm=GOOG4-RSA-SHA256&X-Goog-Credential=a%40b.iam.gserviceaccount.com"
    "%2F20260101%2Fauto%2Fstorage%2Fgoog4_request&X-Goog-Signature=8f%2b"
)
AZURE = "/container/blob?sv=2024-11-04&st=2026-01-01T00%3A00%3A00Z&sr=b&sp=cw&sig=a%2Fb%2Bc%3D&comp="


@pytest.mark.parametrize(
    "target",
    [
        "/",
        "/?",
        "/a?",
        "/a?b?c",
        "/a//b/",
        "/a/./b/../c",
        "/a/%2e%2e/b",
        "/%7Eu/~u",
        "/a%2fb%2Fc?d=%21&e=!&f=%7e",
        "/a+b?c=d+e%20f",
        "/a;b=c,d'(e)*[f]{g}|h^i`j",
        "/%zz%",
        "/a:b@c",
        S3,
        GCS,
        AZURE,
    ],
)
def test_the_target_is_sent_as_it_was_given(target: str) -> None:
    url = call_url(f"https://receiver.example{target}#not-sent")
    assert url.raw_path_qs == target
    assert str(url) == f"https://receiver.example{target}", "what a forward proxy is asked for"


@given(st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E, exclude_characters="#"), max_size=60))
def test_any_ascii_target_is(rest: str) -> None:
    assert call_url(f"http://h/{rest}").raw_path_qs == f"/{rest}"


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("HTTP://Receiver.Example", "http://receiver.example/"),
        ("http://h?a=b", "http://h/?a=b"),
        ("http://h#x", "http://h/"),
        ("http://h..:80/%7E", "http://h/%7E"),
        ("https://[::1]:8443/%7E", "https://[::1]:8443/%7E"),
        ("http://bücher.example/%7E", "http://xn--bcher-kva.example/~"),
        ("http://h/ü%7E", "http://h/%C3%BC~"),
    ],
)
def test_the_host_has_one_name_and_what_is_not_ascii_is_quoted(text: str, url: str) -> None:
    assert str(call_url(text)) == url


@pytest.mark.parametrize("text", ["http://h\\@g/x", "http://h:80\\x/y", "http://a|b/"])
def test_host_and_target_are_those_of_one_reading(text: str) -> None:
    """The host that is vetted is the one that the client connects to."""
    try:
        url = call_url(text)
    except ValueError:
        return
    assert URL(text).host == url.host
