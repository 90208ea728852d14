"""What can go wrong for a caller, as RFC 9457 problem documents with stable codes.

Every error a caller can meet is a class here; the documentation of an endpoint's errors is made from the
classes it names.
"""

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Final

import msgspec
from starlette.responses import Response

__all__ = [
    "AlreadyFinished",
    "BodyTimeout",
    "BodyTooLarge",
    "DatabaseUnavailable",
    "FilterTooBroad",
    "ForbiddenHost",
    "IdempotencyKeyReused",
    "InternalError",
    "InvalidCursor",
    "InvalidHeader",
    "InvalidInput",
    "InvalidRequest",
    "LogUnavailable",
    "MalformedJson",
    "MethodNotAllowed",
    "NotFound",
    "NotVisibleYet",
    "Overloaded",
    "Problem",
    "ProblemBody",
    "RequestNotFound",
    "SubmissionUnknown",
    "UnknownOperation",
    "UnsupportedMediaType",
    "documented",
]

MEDIA_TYPE: Final = "application/problem+json"


class FieldError(msgspec.Struct, frozen=True):
    """One field of the request and what is wrong with it; `field` is a path such as `input.rounds`."""

    field: str
    problem: str


class ProblemBody(msgspec.Struct, frozen=True, omit_defaults=True):
    """An error: `code` is stable and meant for programs, `detail` for people."""

    type: str
    title: str
    status: int
    code: str
    detail: str
    errors: tuple[FieldError, ...] = ()


class Problem(Exception):  # noqa: N818 - its subclasses are named for what has happened
    """Base of all errors that callers see."""

    status: ClassVar[int]
    code: ClassVar[str]
    title: ClassVar[str]
    retry_after_s: ClassVar[int | None] = None
    closes: ClassVar[bool] = False
    """Whether the connection ends with the answer, since the rest of the request is not going to be read."""

    example_fields: ClassVar[tuple[tuple[str, str], ...]] = ()
    """What the documentation shows as `errors`."""

    def __init__(self, detail: str, fields: Iterable[tuple[str, str]] = ()) -> None:
        super().__init__(detail)
        self.detail = detail
        self.fields = tuple(fields)

    def body(self) -> ProblemBody:
        """The document."""
        return ProblemBody(
            type=f"urn:consuma:problem:{self.code}",
            title=self.title,
            status=self.status,
            code=self.code,
            detail=self.detail,
            errors=tuple(FieldError(*each) for each in self.fields),
        )

    def response(self) -> Response:
        """The answer."""
        headers = {"Content-Type": MEDIA_TYPE}
        if self.retry_after_s is not None:
            headers["Retry-After"] = str(self.retry_after_s)
        if self.closes:
            headers["Connection"] = "close"
        return Response(msgspec.json.encode(self.body()), self.status, headers)


class MalformedJson(Problem):
    """The body is no JSON text that every reader of the log would understand in the same way."""

    status, code, title = 400, "malformed_json", "The body is not acceptable JSON"


class InvalidHeader(Problem):
    """A header of the request cannot be used."""

    status, code, title = 400, "invalid_header", "A header is not valid"


class NotFound(Problem):
    """There is nothing at this path."""

    status, code, title = 404, "not_found", "No such resource"


class RequestNotFound(Problem):
    """No request with this id has been accepted."""

    status, code, title = 404, "request_not_found", "No such request"


class MethodNotAllowed(Problem):
    """The path exists, but not with this method."""

    status, code, title = 405, "method_not_allowed", "Method not allowed"


class BodyTimeout(Problem):
    """The body took too long to arrive."""

    status, code, title, closes = 408, "body_timeout", "The body did not arrive in time", True


class AlreadyFinished(Problem):
    """The request has had its outcome."""

    status, code, title = 409, "already_finished", "The request has already finished"


class BodyTooLarge(Problem):
    """The body is longer than a request may be."""

    status, code, title, closes = 413, "body_too_large", "The body is too large", True


class UnsupportedMediaType(Problem):
    """The body is not declared to be plain JSON."""

    status, code, title = 415, "unsupported_media_type", "The body must be application/json"


class ForbiddenHost(Problem):
    """The Host header names somebody else: a page in a browser may have been tricked into calling."""

    status, code, title = 421, "forbidden_host", "This host name is not served here"


class InvalidRequest(Problem):
    """A field is missing, unknown or wrong."""

    status, code, title = 422, "invalid_request", "The request is not valid"
    example_fields = (("callback_url", "must start with http:// or https://"),)


class UnknownOperation(Problem):
    """No operation of this name is installed."""

    status, code, title = 422, "unknown_operation", "No such operation"
    example_fields = (("operation", "unknown operation 'prime'; known are hash_chain, primes"),)


class InvalidInput(Problem):
    """The input does not fit the operation."""

    status, code, title = 422, "invalid_input", "The input does not fit the operation"
    example_fields = (("input.rounds", "Input should be greater than or equal to 1"),)


class IdempotencyKeyReused(Problem):
    """The Idempotency-Key was used before, for something else."""

    status, code, title = 422, "idempotency_key_reused", "The Idempotency-Key belongs to another request"


class InvalidCursor(Problem):
    """The cursor was not made by this API, or for other filters."""

    status, code, title = 422, "invalid_cursor", "The cursor cannot be used"
    example_fields = (("cursor", "the cursor belongs to other filters; start again without it"),)


class FilterTooBroad(Problem):
    """The filters select more than can be searched in time."""

    status, code, title = 422, "filter_too_broad", "The filters are too broad"


class InternalError(Problem):
    """A fault of the service itself; its log tells more."""

    status, code, title = 500, "internal_error", "The service failed"


class Overloaded(Problem):
    """As much is in work as this instance takes; nothing was accepted."""

    status, code, title, retry_after_s = 503, "overloaded", "Too much is in work", 1


class LogUnavailable(Problem):
    """Kafka does not take the request; it was not accepted."""

    status, code, title, retry_after_s = 503, "log_unavailable", "Kafka is not available", 2


class SubmissionUnknown(Problem):
    """Kafka did not acknowledge in time: the request may still run."""

    status, code, title, retry_after_s = (
        503,
        "submission_unknown",
        "It is not known whether it was accepted",
        2,
    )


class DatabaseUnavailable(Problem):
    """The read side does not answer; submitting goes on meanwhile."""

    status, code, title, retry_after_s = 503, "database_unavailable", "The database is not available", 2


class NotVisibleYet(Problem):
    """The read side has not yet caught up with the log, so whether the request exists is not known."""

    status, code, title, retry_after_s = 503, "not_visible_yet", "The read side is behind", 1


def documented(*problems: type[Problem]) -> dict[int | str, dict[str, Any]]:
    """OpenAPI responses of these errors, by status, each with an example."""
    responses: dict[int | str, dict[str, Any]] = {}
    for problem in problems:
        found = responses.setdefault(problem.status, _empty_response(problem))
        found["description"] = "; ".join(filter(None, (found["description"], f"`{problem.code}`")))
        examples = found["content"][MEDIA_TYPE]["examples"]
        examples[problem.code] = {"summary": problem.title, "value": _example(problem)}
    return responses


def _empty_response(problem: type[Problem]) -> dict[str, Any]:
    schema = {"$ref": "#/components/schemas/ProblemBody"}
    response: dict[str, Any] = {
        "description": "",
        "content": {MEDIA_TYPE: {"schema": schema, "examples": {}}},
    }
    if problem.retry_after_s is not None:
        response["headers"] = {
            "Retry-After": {"schema": {"type": "integer"}, "description": "Seconds to wait."}
        }
    return response


def _example(problem: type[Problem]) -> Mapping[str, Any]:
    detail = (problem.__doc__ or "").partition("\n")[0]
    example: dict[str, Any] = msgspec.to_builtins(problem(detail, problem.example_fields).body())
    return example
