"""What may be a result, and that equal results have equal bytes."""

import json
import random
from collections.abc import Callable
from enum import Enum
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.events.strict_json import MAX_DEPTH, JsonValue
from shared.operations.results import InvalidResultError, ResultTooLargeError, encode_result

ROOMY: Final = 1 << 20

values: Final[st.SearchStrategy[JsonValue]] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("aäß\u2028", max_size=3), inner),
    max_leaves=20,
)


def nested(levels: int) -> object:
    value: object = 0
    for _ in range(levels):
        value = [value]
    return value


def circle() -> object:
    loop: list[object] = []
    loop.append(loop)
    return loop


class Text(str):
    """Looks like text."""

    __slots__ = ()


class Colour(Enum):
    """No JSON."""

    RED = object()


@given(value=values)
def test_a_result_reads_back_as_it_was(value: JsonValue) -> None:
    assert json.loads(encode_result(value, ROOMY)) == value


@given(entries=st.dictionaries(st.text(), st.integers(-10, 10), min_size=2), seed=st.integers())
def test_the_order_of_keys_does_not_matter(entries: dict[str, int], seed: int) -> None:
    shuffled = list(entries.items())
    random.Random(seed).shuffle(shuffled)  # noqa: S311 - no secret
    try:
        data = encode_result(entries, ROOMY)
    except InvalidResultError:
        return
    assert encode_result(dict(shuffled), ROOMY) == data


@pytest.mark.parametrize(
    "make",
    [
        lambda: float("nan"),
        lambda: [float("-inf")],
        lambda: {1: "a"},
        lambda: {None: 1},
        lambda: "\ud800",
        lambda: {"\udfff": 1},
        lambda: 2**63,
        lambda: -(2**63) - 1,
        lambda: 10**5000,
        lambda: b"bytes",
        lambda: {1, 2},
        lambda: Text("text"),
        lambda: Colour.RED,
        lambda: nested(MAX_DEPTH + 1),
        lambda: nested(100_000),
        circle,
    ],
)
def test_what_json_cannot_carry_everywhere_is_no_result(make: Callable[[], object]) -> None:
    with pytest.raises(InvalidResultError):
        encode_result(make(), ROOMY)


def test_the_deepest_and_the_largest_pass() -> None:
    assert encode_result(nested(MAX_DEPTH), ROOMY)
    assert encode_result("x" * 98, 100) == b'"' + b"x" * 98 + b'"'
    with pytest.raises(ResultTooLargeError, match="101 bytes, 100 are allowed"):
        encode_result("x" * 99, 100)
