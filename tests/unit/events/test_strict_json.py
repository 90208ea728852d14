"""What databases, languages and libraries disagree about never enters the log."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.events.strict_json import INT_MAX, INT_MIN, MAX_DEPTH, HostileJsonError, JsonValue, parse


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"", "not valid JSON"),
        (b"{", "not valid JSON"),
        (b"\xff", "not valid JSON"),
        (b"NaN", "not valid JSON"),
        (b"[Infinity]", "not valid JSON"),
        (b"[-Infinity]", "not valid JSON"),
        (b'"\\ud800"', "not valid JSON"),
        (b"1" + b"0" * 30, "beyond 64 bit"),
        (b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1), "deeper than 32"),
        (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "not valid JSON"),
        (str(INT_MAX + 1).encode(), "beyond 64 bit"),
        (str(INT_MIN - 1).encode(), "beyond 64 bit"),
        (b"[" + b"9" * 100_000 + b"]", "not valid JSON"),
    ],
)
def test_hostile_text_is_refused_with_the_reason(text: bytes, words: str) -> None:
    with pytest.raises(HostileJsonError, match=words):
        parse(text)


@pytest.mark.parametrize(
    "text",
    [
        b"[" * MAX_DEPTH + b"]" * MAX_DEPTH,
        b"[" * MAX_DEPTH + b"1" + b"]" * MAX_DEPTH,
        str(INT_MAX).encode(),
        str(INT_MIN).encode(),
        b"1.00000000000000000000000000001",
        b"1e308",
        b'"99999999999999999999999999"',
        b'"' + b"[" * 100 + b'"',
        b"[" + b",".join([b"[]"] * 500) + b"]",
    ],
)
def test_what_everybody_understands_passes(text: bytes) -> None:
    assert parse(text) == json.loads(text)


json_values: st.SearchStrategy[JsonValue] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(INT_MIN, INT_MAX)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda children: (
        st.lists(children) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), children)
    ),
    max_leaves=20,
)


@given(json_values)
def test_plain_values_come_back_as_they_went(value: JsonValue) -> None:
    assert parse(json.dumps(value).encode()) == value
