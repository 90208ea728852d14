"""The data of a submission: its fields, their limits, and the digest that tells two requests apart."""

import hashlib
from datetime import datetime
from typing import Final

import msgspec
import orjson

from shared.domain.callback_urls import callback_url_problem
from shared.events.strict_json import HostileJsonError, parse

__all__ = [
    "MAX_NAME",
    "MAX_REFERENCE",
    "MAX_TIMEOUT_S",
    "FieldProblem",
    "RequestData",
    "SubmissionError",
    "field_problem",
    "invalid_request",
    "parse_request_data",
    "parse_strictly",
    "read_request_data",
    "request_digest",
]

MAX_NAME: Final = 128
MAX_REFERENCE: Final = 255
MAX_TIMEOUT_S: Final = 86_400.0

FieldProblem = tuple[str, str]
"""A field's path and what is wrong with it."""


class SubmissionError(ValueError):
    """What was sent is no request. `reason` is a stable code; `fields` says what is wrong where."""

    def __init__(self, reason: str, message: str, fields: tuple[FieldProblem, ...] = ()) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.fields = fields


class RequestData(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """The data of a submission: `timeout` in seconds, `expires_at` as RFC 3339 text."""

    operation: str
    input: msgspec.Raw = msgspec.Raw(b"{}")
    callback_url: str | None = None
    timeout: float | None = None
    expires_at: datetime | None = None
    client_reference: str | None = None
    source: str | None = None
    id: str | None = None
    digest: str | None = None


def parse_request_data(body: bytes) -> RequestData:
    """The data of a submission, checked but for what only the operation knows.

    Raises:
        SubmissionError: it is not JSON that consuma accepts, or a field is wrong.
    """
    parse_strictly(body)
    return read_request_data(body)


def parse_strictly(text: bytes) -> None:
    """Make sure that `text` is JSON that consuma accepts.

    Raises:
        SubmissionError: it is not.
    """
    try:
        parse(text)
    except HostileJsonError as error:
        raise SubmissionError("malformed_json", str(error)) from None


def read_request_data(body: bytes | msgspec.Raw) -> RequestData:
    """The data of a submission in JSON that is known to be acceptable.

    Raises:
        SubmissionError: a field is wrong.
    """
    try:
        data = _decoder.decode(body)
    except msgspec.ValidationError as error:
        raise invalid_request([field_problem(error)]) from None
    problems = _problems(data)
    if problems:
        raise invalid_request(problems)
    return data


def request_digest(data: RequestData) -> str:
    """SHA-256, as hex, of what is asked: equal for two bodies that differ in spelling only."""
    asked = (
        data.operation,
        orjson.loads(memoryview(data.input)),
        data.callback_url,
        data.timeout,
        data.expires_at,
        data.client_reference,
    )
    return hashlib.sha256(orjson.dumps(asked, option=orjson.OPT_SORT_KEYS)).hexdigest()


def invalid_request(problems: list[FieldProblem]) -> SubmissionError:
    """The refusal of a submission for what is wrong in its fields."""
    words = "; ".join(f"{path}: {problem}" for path, problem in problems)
    return SubmissionError("invalid_request", words, tuple(problems))


def field_problem(error: msgspec.ValidationError) -> FieldProblem:
    """`Expected `str`, got `int` - at `$.operation`` as a field and its problem."""
    words, _, path = str(error).partition(" - at ")
    if not path and "required field" in words:
        return words.split("`")[1], "is required"
    if not path and "unknown field" in words:
        return words.split("`")[1], "is not known here"
    return path.strip("`").removeprefix("$.") or "body", words


def _problems(data: RequestData) -> list[FieldProblem]:
    problems: list[FieldProblem] = []
    if not 1 <= len(data.operation) <= MAX_NAME:
        problems.append(("operation", f"must have 1 to {MAX_NAME} characters"))
    if data.callback_url is not None and (problem := callback_url_problem(data.callback_url)):
        problems.append(("callback_url", problem))
    if data.timeout is not None and not 0 < data.timeout <= MAX_TIMEOUT_S:
        problems.append(("timeout", f"must be above 0 and at most {MAX_TIMEOUT_S:.0f} seconds"))
    if data.expires_at is not None and data.expires_at.tzinfo is None:
        problems.append(("expires_at", "needs a UTC offset, such as a trailing Z"))
    if data.client_reference is not None and len(data.client_reference) > MAX_REFERENCE:
        problems.append(("client_reference", f"longer than {MAX_REFERENCE} characters"))
    return problems


_decoder: Final = msgspec.json.Decoder(RequestData)
