"""The API's description: schemas come from the structures that are sent, errors from their classes."""

from collections.abc import Mapping
from typing import Annotated, Any, Final, cast

import msgspec
from fastapi import FastAPI, Path

from services.ingest.body_types import AsyncBody, DestinationBody, SyncBody
from services.ingest.examples import EXAMPLES, REQUEST_ID
from services.ingest.problems import (
    ForbiddenHost,
    InternalError,
    Overloaded,
    Problem,
    ProblemBody,
    documented,
)

__all__ = ["DESCRIPTION", "TAGS", "RequestIdPath", "answers", "install", "json_body", "response_headers"]

DESCRIPTION: Final = """\
Send deterministic, CPU-bound work; get the result in the same call (`sync`) or by a signed HTTP callback
(`async`). Every accepted request is in the log before the answer: after a 200 or 202 it reaches exactly one
outcome. After a 503 it may still run; repeat it with the same `Idempotency-Key`.

Errors are `application/problem+json` with a stable `code`.
"""

TAGS: Final = (
    {"name": "requests", "description": "Submit work, and ask what became of it."},
    {"name": "operations", "description": "What this installation can compute."},
    {"name": "destinations", "description": "Which callback URLs get no callbacks any more, and why."},
    {"name": "health", "description": "For supervisors, load balancers and Prometheus."},
)

_EVERYWHERE: Final = (ForbiddenHost, InternalError, Overloaded)
_TEMPLATE: Final = "#/components/schemas/{name}"
_STRUCTURES: Final = (
    ProblemBody,
    SyncBody,
    AsyncBody,
    DestinationBody,
    *EXAMPLES,
)

Headers = Mapping[str, Any]
RequestIdPath = Annotated[
    str, Path(description="Id of the request, a UUID.", json_schema_extra={"example": REQUEST_ID})
]
"""The path parameter of every call about one request."""


def answers(
    successes: Mapping[int, tuple[type[msgspec.Struct], str]],
    *problems: type[Problem],
    headers: Headers | None = None,
    guarded: bool = True,
) -> dict[int | str, dict[str, Any]]:
    """OpenAPI responses: the structures of a call's successes, and its errors.

    `headers` are those that the successes may carry, `Location` only with 202.
    Calls that are not `guarded` are answered under any name and load.
    """
    everywhere = _EVERYWHERE if guarded else (InternalError,)
    found = documented(*dict.fromkeys((*problems, *everywhere)))
    for status, (struct, description) in successes.items():
        content = {"application/json": {"schema": _reference(struct)}}
        found[status] = {"description": description, "content": content}
        carried = {
            name: each for name, each in (headers or {}).items() if name != "Location" or status == 202
        }
        if carried:
            found[status]["headers"] = carried
    return dict(sorted(found.items(), key=lambda each: int(each[0])))


def json_body(struct: type[msgspec.Struct], example: Mapping[str, Any]) -> dict[str, Any]:
    """OpenAPI description of a JSON body."""
    content = {"application/json": {"schema": _reference(struct), "example": dict(example)}}
    return {"required": True, "content": content}


def response_headers(descriptions: Mapping[str, str]) -> Headers:
    """OpenAPI description of headers that an answer may carry."""
    return {
        name: {"schema": {"type": "string"}, "description": words} for name, words in descriptions.items()
    }


def install(app: FastAPI) -> None:
    """Have `app` serve its description with the schemas of all documented structures."""
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            schema = generate()
            components = schema.setdefault("components", {}).setdefault("schemas", {})
            components.update(_schemas())
            _drop_framework_errors(schema)
            _show_examples(schema)
        return cast("dict[str, Any]", app.openapi_schema)

    app.openapi = openapi  # type: ignore[method-assign]  # the framework's documented way


def _reference(struct: type[msgspec.Struct]) -> dict[str, str]:
    return {"$ref": _TEMPLATE.format(name=struct.__name__)}


def _schemas() -> dict[str, Any]:
    _, components = msgspec.json.schema_components(_STRUCTURES, ref_template=_TEMPLATE)
    return components


def _show_examples(schema: dict[str, Any]) -> None:
    """Put in here, since the framework leaves every null out of what it is given."""
    examples = {struct.__name__: example for struct, example in EXAMPLES.items()}
    for operations in schema["paths"].values():
        for operation in operations.values():
            for answer in operation["responses"].values():
                for body in answer.get("content", {}).values():
                    name = body["schema"].get("$ref", "").rpartition("/")[2]
                    if name in examples:
                        body["example"] = examples[name]


def _drop_framework_errors(schema: dict[str, Any]) -> None:
    """The framework announces its own shape of a 422, which this API never sends."""
    for name in ("HTTPValidationError", "ValidationError"):
        schema["components"]["schemas"].pop(name, None)
    for operations in schema["paths"].values():
        for operation in operations.values():
            if "application/json" in operation["responses"].get("422", {}).get("content", {}):
                del operation["responses"]["422"]
