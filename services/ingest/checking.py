"""Checks of a body: JSON, fields, and the operation's input. Needs no event loop."""

from dataclasses import dataclass
from typing import Final

import msgspec

from services.ingest.body_types import REST_SOURCE, AsyncBody, SyncBody
from services.ingest.problems import (
    InvalidInput,
    InvalidRequest,
    MalformedJson,
    Problem,
    UnknownOperation,
)
from shared.domain.types import Mode
from shared.events.request_data import (
    FieldProblem,
    RequestData,
    SubmissionError,
    parse_request_data,
    request_digest,
)
from shared.operations.registry import InvalidInputError, Registry, UnknownOperationError

__all__ = ["BodyCheck", "Wanted"]

_FIELDS: Final = {
    Mode.SYNC: frozenset(SyncBody.__struct_fields__),
    Mode.ASYNC: frozenset(AsyncBody.__struct_fields__),
}
_keys_decoder: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])


@dataclass(frozen=True, slots=True)
class Wanted:
    """A submission that can be accepted; `data.digest` tells bodies apart."""

    mode: Mode
    data: RequestData
    digest: str


class BodyCheck:
    """Checks bodies against the operations of this installation."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    def check(self, body: bytes, mode: Mode) -> Wanted:
        """The submission in `body`.

        Raises:
            MalformedJson, InvalidRequest, UnknownOperation, InvalidInput: it is not one.
        """
        return self._checked(_parsed(body, mode), mode)

    def check_if_cheap(self, body: bytes, mode: Mode) -> Wanted | None:
        """The submission in a short `body`; None if its operation's check may take long.

        Raises:
            MalformedJson, InvalidRequest, UnknownOperation, InvalidInput: it is not one.
        """
        data = _parsed(body, mode)
        return self._checked(data, mode) if self._registry.has_cheap_check(data.operation) else None

    def _checked(self, data: RequestData, mode: Mode) -> Wanted:
        self._check_operation(data)
        digest = request_digest(data)
        return Wanted(mode, msgspec.structs.replace(data, source=REST_SOURCE, digest=digest), digest)

    def _check_operation(self, data: RequestData) -> None:
        try:
            limits = self._registry.get(data.operation).limits
            self._registry.parse(data.operation, bytes(data.input))
        except UnknownOperationError as error:
            raise UnknownOperation(str(error), [("operation", str(error))]) from None
        except InvalidInputError as error:
            raise InvalidInput(f"operation {data.operation}: {error}", error.fields) from None
        if data.timeout is not None and data.timeout * 1000 > limits.max_timeout_ms:
            longest_s = limits.max_timeout_ms / 1000
            problem = f"operation {data.operation} allows at most {longest_s:g} seconds"
            raise InvalidRequest(f"timeout: {problem}", [("timeout", problem)])


def _parsed(body: bytes, mode: Mode) -> RequestData:
    try:
        data = parse_request_data(body)
    except SubmissionError as error:
        raise _submission_problem(error) from None
    _check_fields(body, mode)
    return data


def _check_fields(body: bytes, mode: Mode) -> None:
    """Refuse what would be ignored: a misspelt `callback_url` must not become a request without one."""
    allowed = _FIELDS[mode]
    unknown = [name for name in _keys_decoder.decode(body) if name not in allowed]
    if unknown:
        known = ", ".join(sorted(allowed))
        fields: list[FieldProblem] = [
            (name[:128], f"is not a field of this call: {known}") for name in unknown[:20]
        ]
        raise InvalidRequest(f"unknown fields: {', '.join(name for name, _ in fields)}", fields)


def _submission_problem(error: SubmissionError) -> Problem:
    kind = MalformedJson if error.reason == "malformed_json" else InvalidRequest
    return kind(error.message, error.fields)
