"""The operations that this installation offers: built-in ones, and those of installed packages.

A package joins with an entry point in the group `consuma.operations` that names an `Operation`.
"""

from collections.abc import Iterable, Mapping
from functools import cache
from importlib.metadata import entry_points
from typing import Any, Final

from pydantic import BaseModel, ValidationError

from shared.operations.builtin import BUILTIN_OPERATIONS
from shared.operations.model import Operation

__all__ = ["InvalidInputError", "PluginError", "Registry", "UnknownOperationError", "load_registry"]

ENTRY_POINT_GROUP: Final = "consuma.operations"
MAX_FIELDS: Final = 20
MOST_ERRORS: Final = 1_000
"""To list one error is to make an object of each: two seconds for a megabyte of wrong numbers."""


class UnknownOperationError(ValueError):
    """No operation of that name is installed."""


class InvalidInputError(ValueError):
    """An input does not fit its operation. `fields` lists paths below `input` and what is wrong there."""

    def __init__(self, fields: tuple[tuple[str, str], ...]) -> None:
        super().__init__("; ".join(f"{path}: {words}" for path, words in fields))
        self.fields = fields


class PluginError(Exception):
    """An installed package announces an operation that cannot be used."""


class Registry:
    """Operations by name."""

    def __init__(self, operations: Iterable[Operation]) -> None:
        self._operations: dict[str, Operation] = {}
        for operation in operations:
            if operation.name in self._operations:
                raise PluginError(f"two operations are called {operation.name!r}; uninstall one of them")
            self._operations[operation.name] = operation

    def get(self, name: str) -> Operation:
        """The operation of that name.

        Raises:
            UnknownOperationError: there is none.
        """
        try:
            return self._operations[name]
        except KeyError:
            known = ", ".join(sorted(self._operations))
            raise UnknownOperationError(f"unknown operation {name!r}; known are {known}") from None

    def is_reusable(self, name: str) -> bool:
        """Whether tasks of that operation may follow each other in a process; an unknown one runs nothing."""
        operation = self._operations.get(name)
        return operation is None or operation.reusable

    def has_cheap_check(self, name: str) -> bool:
        """Whether an event loop may check short inputs; those of an unknown operation are not checked."""
        operation = self._operations.get(name)
        return operation is None or operation.cheap_check

    def all(self) -> list[Operation]:
        """Every operation, by name."""
        return [self._operations[name] for name in sorted(self._operations)]

    def parse(self, name: str, input_json: bytes) -> Any:  # noqa: ANN401 - each operation has its own model
        """The validated input of operation `name`.

        Raises:
            UnknownOperationError: there is no such operation.
            InvalidInputError: the input does not fit it.
        """
        try:
            return self.get(name).input_model.model_validate_json(input_json)
        except ValidationError as error:
            raise InvalidInputError(_fields(error)) from None

    def validate(self, name: str, input_json: bytes) -> bytes:
        """The input of operation `name` in full, defaults filled in, as JSON; nothing is run.

        Raises:
            UnknownOperationError: there is no such operation.
            InvalidInputError: the input does not fit it.
        """
        model: BaseModel = self.parse(name, input_json)
        return model.model_dump_json().encode()

    def describe(self) -> list[Mapping[str, Any]]:
        """What a client needs to know to call each operation."""
        return [_description(operation) for operation in self.all()]


@cache
def load_registry() -> Registry:
    """The registry of this installation.

    Raises:
        PluginError: an installed package's operation cannot be loaded.
    """
    return Registry([*BUILTIN_OPERATIONS, *_plugins()])


def _plugins() -> list[Operation]:
    found: list[Operation] = []
    for entry in entry_points(group=ENTRY_POINT_GROUP):
        package = entry.dist.name if entry.dist else "an unknown package"
        try:
            operation = entry.load()
        except Exception as error:
            raise PluginError(
                f"operation {entry.name!r} of {package} cannot be imported: {error!r}; repair or uninstall it"
            ) from error
        if not isinstance(operation, Operation):
            raise PluginError(f"{entry.value} of {package} is no Operation but {type(operation).__name__}")
        found.append(operation)
    return found


def _fields(error: ValidationError) -> tuple[tuple[str, str], ...]:
    if error.error_count() > MOST_ERRORS:
        return (("input", f"has {error.error_count()} errors, too many to be listed"),)
    return tuple(
        (".".join(("input", *map(str, problem["loc"]))), problem["msg"].removeprefix("Value error, "))
        for problem in error.errors(include_url=False, include_context=False)[:MAX_FIELDS]
    )


def _description(operation: Operation) -> Mapping[str, Any]:
    limits = operation.limits
    return {
        "name": operation.name,
        "version": operation.version,
        "description": operation.description,
        "input_schema": operation.input_schema(),
        "limits": {
            "default_timeout_ms": limits.default_timeout_ms,
            "max_timeout_ms": limits.max_timeout_ms,
            "memory_bytes": limits.memory_bytes,
            "max_result_bytes": limits.max_result_bytes,
        },
        "example": operation.example,
    }
