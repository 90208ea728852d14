"""The oracle of `shared.events.strict_json`: the same rules, by visiting every value and a second parse."""

import json
import re
from collections.abc import Iterable
from typing import Final, NoReturn

import orjson

from shared.events.strict_json import INT_MAX, INT_MIN, MAX_DEPTH, HostileJsonError, JsonValue

__all__ = ["parse"]

_LONG_DIGITS: Final = re.compile(rb"\d{19}")
_LONGEST_INT_TEXT: Final = 20


def parse(data: bytes) -> JsonValue:
    """The value of a JSON text.

    Raises:
        HostileJsonError: the text is malformed, or holds what the module's docstring lists.
    """
    try:
        value: JsonValue = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise HostileJsonError(_describe(error)) from None
    if data.count(b"[") + data.count(b"{") > MAX_DEPTH and _too_deep(value):
        raise HostileJsonError(f"nested deeper than {MAX_DEPTH} levels")
    if _LONG_DIGITS.search(data):
        _refuse_long_integers(data)
    return value


def _describe(error: orjson.JSONDecodeError) -> str:
    return f"not valid JSON: {error.msg} at line {error.lineno}, column {error.colno}"


def _too_deep(value: JsonValue) -> bool:
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [child for parent in level for child in _children(parent) if isinstance(child, list | dict)]
        if not level:
            return False
    return True


def _children(value: JsonValue) -> Iterable[JsonValue]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


def _refuse_long_integers(data: bytes) -> None:
    """The fast parser turns an integer beyond 64 bit into a float without a word; the slow one tells."""
    json.loads(data, parse_int=_parse_int, parse_constant=_refuse_constant)


def _parse_int(text: str) -> int:
    if len(text) > _LONGEST_INT_TEXT or not INT_MIN <= int(text) <= INT_MAX:
        raise HostileJsonError(f"an integer beyond 64 bit: {text[:24]}; send it as a string")
    return int(text)


def _refuse_constant(text: str) -> NoReturn:
    raise HostileJsonError(f"not valid JSON: {text}")
