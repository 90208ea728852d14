"""The API's description is valid, complete, and says what is sent."""

import json
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator, validate

from services.ingest import problems
from services.ingest.app import create_app
from services.ingest.examples import EXAMPLES
from services.ingest.problems import Problem
from services.ingest.settings import IngestSettings

PROBLEM = "application/problem+json"
Call = tuple[str, str, dict[str, Any]]


@pytest.fixture(scope="module")
def description() -> dict[str, Any]:
    """As callers get it: after a trip through JSON."""
    found: dict[str, Any] = json.loads(json.dumps(create_app(IngestSettings()).api.openapi()))
    return found


def calls(description: dict[str, Any]) -> Iterator[Call]:
    for path, item in description["paths"].items():
        for method, operation in item.items():
            yield method, path, operation


def media(description: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every body of a request or an answer, with where it is."""
    for method, path, operation in calls(description):
        bodies = {"request": operation["requestBody"]} if "requestBody" in operation else {}
        for name, found in (bodies | operation["responses"]).items():
            for each in found.get("content", {}).values():
                yield f"{method} {path} {name}", each


def test_it_is_valid_openapi(description: dict[str, Any]) -> None:
    validate(description, cls=OpenAPIV31SpecValidator)


def test_every_call_is_described(description: dict[str, Any]) -> None:
    names = [operation["operationId"] for _, _, operation in calls(description)]
    assert len(names) == len(set(names))
    for method, path, operation in calls(description):
        assert operation["summary"], path
        assert operation["description"], path
        assert operation["tags"][0] in [tag["name"] for tag in description["tags"]]
        assert list(operation["responses"]) == sorted(operation["responses"]), (method, path)
        for parameter in operation.get("parameters", ()):
            words = parameter.get("description") or parameter["schema"]
            assert words, (path, parameter["name"])


def test_every_body_has_an_example_that_fits_its_schema(description: dict[str, Any]) -> None:
    for where, body in media(description):
        shown = [each["value"] for each in body.get("examples", {}).values()] or [body["example"]]
        schema = {**body["schema"], "components": description["components"]}
        for example in shown:
            errors = [error.message for error in Draft202012Validator(schema).iter_errors(example)]
            assert errors == [], where


def test_every_problem_is_announced_somewhere(description: dict[str, Any]) -> None:
    announced = {
        code
        for _, _, operation in calls(description)
        for answer in operation["responses"].values()
        for code in answer.get("content", {}).get(PROBLEM, {}).get("examples", {})
    }
    classes = [
        each for each in vars(problems).values() if isinstance(each, type) and issubclass(each, Problem)
    ]
    everywhere = {problems.NotFound.code, problems.MethodNotAllowed.code}  # of no call in particular
    assert announced == {each.code for each in classes if each is not Problem} - everywhere


def test_problem_codes_are_unique_and_say_when_to_come_back() -> None:
    classes = [
        each for each in vars(problems).values() if isinstance(each, type) and issubclass(each, Problem)
    ]
    codes = [each.code for each in classes if each is not Problem]
    assert len(codes) == len(set(codes))
    for each in classes:
        if each is not Problem and each.status == 503:
            assert each("x").response().headers["retry-after"] == str(each.retry_after_s)


@pytest.mark.parametrize("struct", EXAMPLES, ids=lambda struct: struct.__name__)
def test_examples_are_what_the_structures_would_send(struct: type[msgspec.Struct]) -> None:
    example = EXAMPLES[struct]
    sent = msgspec.json.decode(
        msgspec.json.encode(msgspec.json.decode(msgspec.json.encode(example), type=struct))
    )
    assert sent == example
