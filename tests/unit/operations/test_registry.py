"""Operations by name, their inputs, and packages that bring more."""

import json
import subprocess
import sys
import time
from contextlib import suppress
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from shared.operations import registry as registry_module
from shared.operations.model import Input, Limits, Operation
from shared.operations.registry import (
    InvalidInputError,
    PluginError,
    Registry,
    UnknownOperationError,
    load_registry,
)

NAMES: Final = [operation.name for operation in load_registry().all()]


class Number(Input):
    """One number."""

    number: int = 1


def operation(name: str = "double", **more: Any) -> Operation:  # noqa: ANN401 - as Operation
    settings: dict[str, Any] = {"description": "Doubles.", "input_model": Number, "example": {"number": 2}}
    return Operation(name=name, run=lambda task: task.number * 2, **settings | more)


def test_six_operations_come_with_consuma() -> None:
    assert NAMES == [
        "hash_chain",
        "mandelbrot_tile",
        "matrix",
        "primes",
        "text_statistics",
        "value_at_risk",
    ]


def test_an_operation_is_reusable_only_if_it_says_so() -> None:
    registry = Registry([operation("plain"), operation("kept", reusable=True)])
    assert not registry.is_reusable("plain")
    assert registry.is_reusable("kept")
    assert registry.is_reusable("unknown"), "it runs nothing"
    assert all(load_registry().is_reusable(name) for name in NAMES)


def test_an_unknown_name_is_told_with_the_known_ones() -> None:
    with pytest.raises(UnknownOperationError, match=r"unknown operation 'nope'; known are hash_chain, "):
        load_registry().get("nope")


@pytest.mark.parametrize(
    ("name", "data", "path", "words"),
    [
        ("hash_chain", {}, "input.seed", "required"),
        ("hash_chain", {"seed": 1}, "input.seed", "valid string"),
        ("hash_chain", {"seed": "a", "rounds": "5"}, "input.rounds", "valid integer"),
        ("hash_chain", {"seed": "a", "rounds": 0}, "input.rounds", "greater than or equal to 1"),
        ("hash_chain", {"seed": "a", "color": 1}, "input.color", "not permitted"),
        ("primes", {"start": 9, "stop": 3}, "input", "stop must not be below start"),
        ("primes", {"stop": 10**12}, "input", "may span"),
        ("matrix", {"task": "determinant", "matrix": [[1, 2]]}, "input", "square"),
        ("matrix", {"task": "product", "matrix": [[1]], "other": []}, "input", "as many rows"),
        ("matrix", {"task": "power", "matrix": [[1, 2], [3]]}, "input", "same length"),
        ("value_at_risk", {"positions": []}, "input.positions", "at least 1"),
        ("value_at_risk", {"positions": [{"value": 1}]}, "input.positions.0.volatility", "required"),
        ("mandelbrot_tile", [], "input", "object"),
    ],
)
def test_an_invalid_input_names_the_field(name: str, data: object, path: str, words: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        load_registry().validate(name, json.dumps(data).encode())
    ((field, told),) = caught.value.fields
    assert field == path
    assert words in told


@pytest.mark.parametrize("text", [b"", b"{", b'{"seed": NaN}', b"\xff", b'"\\ud800"'])
def test_what_is_no_json_is_an_invalid_input(text: bytes) -> None:
    with pytest.raises(InvalidInputError):
        load_registry().validate("hash_chain", text)


def test_many_faults_are_told_up_to_a_limit() -> None:
    data = {"seed": "a"} | {f"extra{number}": 1 for number in range(100)}
    with pytest.raises(InvalidInputError) as caught:
        load_registry().validate("hash_chain", json.dumps(data).encode())
    assert len(caught.value.fields) == 20


@pytest.mark.parametrize("name", NAMES)
def test_validation_fills_in_and_is_idempotent(name: str) -> None:
    registry = load_registry()
    once = registry.validate(name, json.dumps(registry.get(name).example).encode())
    assert registry.validate(name, once) == once


@given(data=st.binary(max_size=200), name=st.sampled_from(NAMES))
def test_any_bytes_are_an_input_or_an_invalid_one(name: str, data: bytes) -> None:
    with suppress(InvalidInputError):
        json.loads(load_registry().validate(name, data))


@pytest.mark.parametrize("told", load_registry().describe(), ids=NAMES)
def test_a_description_says_all_that_a_caller_needs(told: dict[str, Any]) -> None:
    assert told["input_schema"]["additionalProperties"] is False
    assert set(told["example"]) <= set(told["input_schema"]["properties"])
    assert told["limits"]["default_timeout_ms"] <= told["limits"]["max_timeout_ms"]
    json.dumps(told)


@pytest.mark.parametrize(("asked", "given_ms"), [(None, 1000), (1, 1), (0, 1), (4999, 4999), (9999, 5000)])
def test_a_caller_may_ask_for_time_up_to_the_maximum(asked: int | None, given_ms: int) -> None:
    assert Limits(default_timeout_ms=1000, max_timeout_ms=5000).timeout_ms(asked) == given_ms


@pytest.mark.parametrize(
    "limits",
    [
        {"default_timeout_ms": 0},
        {"default_timeout_ms": 10, "max_timeout_ms": 9},
        {"memory_bytes": 5},
        {"max_result_bytes": 3 * 1024 * 1024},
    ],
)
def test_limits_that_make_no_sense_are_refused(limits: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=r"can|must"):
        Limits(**limits)


@pytest.mark.parametrize("name", ["", "Upper", "with-dash", "9lives", "x" * 65, "a b"])
def test_a_bad_name_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="is no name"):
        operation(name)


def test_an_example_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="number"):
        operation(example={"number": "two"})


def test_two_operations_of_one_name_are_refused() -> None:
    with pytest.raises(PluginError, match="two operations are called 'double'"):
        Registry([operation(), operation()])


DOUBLE = operation()
NO_OPERATION = 5


class _Package:
    name = "some-package"


def install(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    entry = EntryPoint("double", value, registry_module.ENTRY_POINT_GROUP)
    vars(entry)["dist"] = _Package()
    monkeypatch.setattr(registry_module, "entry_points", lambda group: [entry])


def test_an_installed_package_brings_an_operation(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, f"{__name__}:DOUBLE")
    loaded = load_registry.__wrapped__()
    assert loaded.get("double").run(loaded.parse("double", b'{"number": 4}')) == 8
    assert len(loaded.all()) == len(NAMES) + 1


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("no_such_module_anywhere:X", "cannot be imported"),
        (f"{__name__}:MISSING", "cannot be imported"),
        (f"{__name__}:NO_OPERATION", "is no Operation but int"),
    ],
)
def test_a_broken_package_is_named(monkeypatch: pytest.MonkeyPatch, value: str, words: str) -> None:
    install(monkeypatch, value)
    with pytest.raises(PluginError, match="some-package") as caught:
        load_registry.__wrapped__()
    assert words in str(caught.value)


def test_loading_the_operations_imports_no_service_and_no_client() -> None:
    code = (
        "import sys; from shared.operations.registry import load_registry; load_registry();"
        "print(sorted({'aiokafka', 'sqlalchemy', 'fastapi', 'aiohttp', 'asyncio'} & set(sys.modules)))"
    )
    told = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(__file__).parents[3],
        capture_output=True,
        check=True,
        text=True,
        timeout=60,
    )
    assert told.stdout.strip() == "[]"


def test_errors_by_the_hundred_thousand_are_counted_and_not_listed() -> None:
    """A list of each would take seconds; what checking costs is the model's."""

    class Words(Input):
        words: list[str]

    operation = Operation(
        name="words", description="of words", input_model=Words, run=str, example={"words": ["a"]}
    )
    registry = Registry([operation])
    wrong = b'{"words":[' + b"1," * 499_999 + b"1]}"
    began = time.process_time()
    with pytest.raises(ValidationError):
        Words.model_validate_json(wrong)
    checked = time.process_time()
    with pytest.raises(InvalidInputError, match="500000 errors") as refused:
        registry.parse("words", wrong)
    assert len(refused.value.fields) == 1
    assert time.process_time() - checked < 3 * (checked - began)
