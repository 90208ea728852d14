"""JSON from strangers: parsed only if every reader of the log will understand it the same way.

Refused are NaN and Infinity, nesting deeper than 32, lone surrogates and integers beyond 64 bit: databases,
languages and libraries disagree about each of them. The checks work on the bytes of a text that is known to
be JSON: no check visits the parsed values one by one.
"""

import re
from typing import Final

import orjson

__all__ = ["INLINE_BYTES", "INT_MAX", "INT_MIN", "MAX_DEPTH", "HostileJsonError", "JsonValue", "parse"]


JsonValue = str | int | float | bool | None | list["JsonValue"] | dict[str, "JsonValue"]

MAX_DEPTH: Final = 32
INT_MIN: Final = -(2**63)
INT_MAX: Final = 2**63 - 1

INLINE_BYTES: Final = 16 * 1024
"""A text up to this size costs an event loop at most 5 ms; a longer one belongs into a decoder process."""

_NO_MEMORY: Final = "Not enough memory"
"""How the parser's message begins if it is not the text's fault."""

_LONGEST_INT_TEXT: Final = 20
_LONG_RUN: Final = b"0" * 19
_DIGITS_TO_ZERO: Final = bytes(
    ord("0") if chr(byte).isascii() and chr(byte).isdigit() else 0 for byte in range(256)
)
_LONG_INTEGER: Final = re.compile(rb"(?<![\d.eE+-])-?\d{19,}+(?![.eE])")

_TO_SQUARE: Final = bytes.maketrans(b"{}", b"[]")
_ALL_BUT_MARKS: Final = bytes(set(range(256)) - set(b'[]{}"'))


class HostileJsonError(ValueError):
    """The text is no JSON that consuma accepts; the message says why, in words for its author."""


def parse(data: bytes) -> JsonValue:
    """The value of a JSON text.

    Raises:
        HostileJsonError: the text is malformed, or holds what the module's docstring lists.
        MemoryError: there is not enough memory to tell.
    """
    try:
        value: JsonValue = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        if error.msg.startswith(_NO_MEMORY):
            raise MemoryError(error.msg) from None
        raise HostileJsonError(_describe(error)) from None
    if data.count(b"[") + data.count(b"{") > MAX_DEPTH and _too_deep(data):
        raise HostileJsonError(f"nested deeper than {MAX_DEPTH} levels")
    if len(data) >= len(_LONG_RUN) and _LONG_RUN in data.translate(_DIGITS_TO_ZERO):
        _refuse_long_integers(data)
    return value


def _describe(error: orjson.JSONDecodeError) -> str:
    return f"not valid JSON: {error.msg} at line {error.lineno}, column {error.colno}"


def _too_deep(data: bytes) -> bool:
    """Whether brackets outside strings nest too deep: each round takes the innermost pairs away."""
    marks = _without_escapes(data).translate(_TO_SQUARE, _ALL_BUT_MARKS)
    # Two quotes side by side bound nothing that counts: either a string without brackets, or what lies
    # between two strings. All other marks stay inside, or outside, of a string.
    marks = marks.replace(b'""', b"")
    if b'"' in marks:
        marks = _outside_strings(marks, b"")
    for _ in range(MAX_DEPTH):
        if not marks:
            return False
        marks = marks.replace(b"[]", b"")
    return bool(marks)


def _refuse_long_integers(data: bytes) -> None:
    """The parser turns an integer beyond 64 bit into a float without a word."""
    for found in _LONG_INTEGER.finditer(_outside_strings(_without_escapes(data), b" ")):
        text = found[0]
        if len(text) > _LONGEST_INT_TEXT or not INT_MIN <= int(text) <= INT_MAX:
            raise HostileJsonError(f"an integer beyond 64 bit: {text[:24].decode()}; send it as a string")


def _without_escapes(data: bytes) -> bytes:
    """`data` in which every quote bounds a string."""
    return data.replace(rb"\\", b"").replace(rb"\"", b"") if b"\\" in data else data


def _outside_strings(data: bytes, between: bytes) -> bytes:
    """What lies outside strings, each string replaced by `between`."""
    return between.join(data.split(b'"')[::2])
