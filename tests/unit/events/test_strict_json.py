"""What databases, languages and libraries disagree about never enters the log."""

import json
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.events.strict_json import INT_MAX, INT_MIN, MAX_DEPTH, HostileJsonError, JsonValue, parse
from tests.unit.events import slow_strict_json


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


def verdict(parser: Callable[[bytes], JsonValue], text: bytes) -> tuple[str, str]:
    """Refused with which words, or accepted as which value; `repr` tells 1 from 1.0 and from true."""
    try:
        return "accepted", repr(parser(text))
    except HostileJsonError as error:
        return "refused", str(error)


AWKWARD_STRINGS = st.text(st.sampled_from('[]{}"\\/,:0123456789eE.-\n\u00e9\U0001f600'), max_size=30)
AWKWARD_NUMBERS = (
    st.integers(-(2**70), 2**70)
    | st.sampled_from([INT_MAX, INT_MAX + 1, INT_MIN, INT_MIN - 1, 10**18, 10**19, -(10**19), 10**30])
    | st.floats(allow_nan=False, allow_infinity=False)
)
NUMBER_TEXTS = st.from_regex(
    r"\A-?(0|[1-9][0-9]{0,2}|[1-9][0-9]{17,21})(\.[0-9]{1,22})?([eE][+-]?[0-9]{1,22})?\Z", fullmatch=True
)
JSON_TEXTS = st.recursive(
    AWKWARD_STRINGS.map(json.dumps)
    | AWKWARD_STRINGS.map(lambda text: json.dumps(text, ensure_ascii=False))
    | AWKWARD_NUMBERS.map(json.dumps)
    | NUMBER_TEXTS
    | st.sampled_from(["true", "false", "null", "NaN", '"\\ud800"', "-Infinity"]),
    lambda inner: (
        st.lists(inner, max_size=5).map(lambda each: "[" + ", ".join(each) + "]")
        | st.lists(st.tuples(AWKWARD_STRINGS, inner), max_size=5).map(
            lambda pairs: "{" + ",".join(f"{json.dumps(key)}:{value}" for key, value in pairs) + "}"
        )
        | st.tuples(st.integers(1, MAX_DEPTH + 1), inner).map(lambda it: "[" * it[0] + it[1] + "]" * it[0])
        | st.tuples(st.integers(1, MAX_DEPTH + 1), AWKWARD_STRINGS, inner).map(
            lambda it: f"{{{json.dumps(it[1])}:" * it[0] + it[2] + "}" * it[0]
        )
    ),
    max_leaves=12,
)


@settings(max_examples=300)
@given(JSON_TEXTS)
def test_the_checks_on_bytes_agree_with_the_checks_on_values(text: str) -> None:
    assert verdict(parse, text.encode()) == verdict(slow_strict_json.parse, text.encode())


@settings(max_examples=300)
@given(st.text(st.sampled_from('[]{}"\\,:19eE.- '), max_size=80) | st.binary(max_size=40))
def test_the_checks_agree_on_texts_that_are_hardly_json(text: str | bytes) -> None:
    data = text if isinstance(text, bytes) else text.encode()
    assert verdict(parse, data) == verdict(slow_strict_json.parse, data)


@given(JSON_TEXTS, st.data())
def test_the_checks_agree_on_texts_with_one_wrong_byte(text: str, data: st.DataObject) -> None:
    changed = bytearray(text.encode())
    changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(st.sampled_from(b'[]{}"\\,19-e\xff'))
    assert verdict(parse, bytes(changed)) == verdict(slow_strict_json.parse, bytes(changed))
