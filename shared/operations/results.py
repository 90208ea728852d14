"""Results as canonical JSON: equal values have equal bytes, and every reader of the log can read them."""

import json
from typing import Final

import orjson

from shared.events.strict_json import HostileJsonError, parse

__all__ = ["InvalidResultError", "ResultTooLargeError", "encode_result"]

PLAIN_VALUES_ONLY: Final = (
    orjson.OPT_PASSTHROUGH_SUBCLASS | orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_PASSTHROUGH_DATETIME
)

_encoder: Final = json.JSONEncoder(
    allow_nan=False, sort_keys=True, separators=(",", ":"), ensure_ascii=False, check_circular=True
)


class InvalidResultError(ValueError):
    """What an operation returned cannot be a result."""


class ResultTooLargeError(ValueError):
    """A result is larger than its operation may return."""


def encode_result(value: object, max_bytes: int) -> bytes:
    """Canonical JSON of `value`: sorted keys, no white space, UTF-8, numbers as Python writes them.

    Two encoders have to agree. The strict one refuses keys that are no text, subclasses that look like plain
    values, and lone surrogates; the standard one refuses NaN and Infinity, and its text of a number does not
    change with a library's version.

    Raises:
        InvalidResultError: it is not what JSON can express within consuma's limits.
        ResultTooLargeError: it has more than `max_bytes`.
    """
    try:
        orjson.dumps(value, option=PLAIN_VALUES_ONLY)
        data = _encoder.encode(value).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidResultError(f"the result cannot be written as JSON: {error}") from None
    if len(data) > max_bytes:
        raise ResultTooLargeError(f"the result has {len(data)} bytes, {max_bytes} are allowed")
    try:
        parse(data)
    except HostileJsonError as error:
        raise InvalidResultError(f"the result cannot be read everywhere: {error}") from None
    return data
