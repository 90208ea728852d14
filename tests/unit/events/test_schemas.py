"""The generated schemas and the AsyncAPI document: current, valid, complete, and true of what is written."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft7Validator, Draft202012Validator

from shared.events.asyncapi import MESSAGES, asyncapi
from shared.events.codec import EVENT_TYPES
from shared.events.schemas import DOCS, documents, event_schemas
from shared.events.submission import SUBMITTED_TYPE
from shared.kafka.topics import Topic

HERE = Path(__file__).parent
GOLDEN = sorted((HERE / "golden").glob("*.json"))


def errors(validator: Draft202012Validator | Draft7Validator, instance: object) -> list[str]:
    return [f"{error.json_path}: {error.message[:300]}" for error in validator.iter_errors(instance)]


def test_what_is_committed_is_what_the_code_says() -> None:
    """Otherwise run `python -m shared.events.schemas` and commit what it writes."""
    found = {
        str(path.relative_to(DOCS)): path.read_text(encoding="utf-8")
        for path in [*(DOCS / "schemas").glob("*"), DOCS / "asyncapi.yaml"]
    }
    assert found == documents()


@pytest.mark.parametrize("type_", event_schemas())
def test_every_schema_is_valid(type_: str) -> None:
    schema = event_schemas()[type_]
    Draft202012Validator.check_schema(schema)
    assert schema["description"]


def test_every_event_type_has_a_schema() -> None:
    assert event_schemas().keys() == {SUBMITTED_TYPE, *EVENT_TYPES}


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_golden_events_fit_their_schemas(path: Path) -> None:
    golden = json.loads(path.read_text(encoding="utf-8"))
    type_ = golden["headers"]["ce_type"]
    assert errors(Draft202012Validator(event_schemas()[type_]), json.loads(golden["value"])) == []


@pytest.mark.parametrize(
    ("data", "fits"),
    [
        ({"operation": "primes"}, True),
        ({"operation": "primes", "input": {"stop": 7}, "timeout": 2.5, "id": "1", "source": "me"}, True),
        ({"operation": "primes", "from_a_later_release": 1}, True),
        ({"input": {}}, False),
        ({"operation": ""}, False),
        ({"operation": "primes", "timeout": 0}, False),
        ({"operation": "primes", "client_reference": "x" * 256}, False),
        ([], False),
    ],
    ids=str,
)
def test_the_schema_of_requests_tells_good_from_bad(data: object, fits: bool) -> None:
    assert (errors(Draft202012Validator(event_schemas()[SUBMITTED_TYPE]), data) == []) is fits


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((DOCS / "asyncapi.yaml").read_text(encoding="utf-8"))
    return found


def test_the_asyncapi_document_is_valid(document: dict[str, Any]) -> None:
    """By the published meta-schema."""
    meta = json.loads((HERE / "asyncapi" / "3.0.0.json").read_text(encoding="utf-8"))
    assert errors(Draft7Validator(meta), document) == []


def test_the_meta_schema_can_fail(document: dict[str, Any]) -> None:
    meta = json.loads((HERE / "asyncapi" / "3.0.0.json").read_text(encoding="utf-8"))
    assert errors(Draft7Validator(meta), {**document, "operations": {"submit": {"action": "publish"}}}) != []


def test_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    for reference in references(document):
        found: Any = document
        for part in reference.removeprefix("#/").split("/"):
            found = found[part.replace("~1", "/").replace("~0", "~")]
        assert found


def references(part: object) -> list[str]:
    if isinstance(part, dict):
        own = [part["$ref"]] if isinstance(part.get("$ref"), str) else []
        return own + [each for value in part.values() for each in references(value)]
    return [each for value in part for each in references(value)] if isinstance(part, list) else []


def test_every_topic_and_every_event_is_described() -> None:
    assert MESSAGES.keys() == set(Topic)
    assert asyncapi()["channels"].keys() == {topic.value for topic in Topic}
    assert {name for _, types in MESSAGES.values() for name in types} >= {SUBMITTED_TYPE, *EVENT_TYPES}
