"""What an operation is: a name, an input model, a pure function, limits and an example."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from pydantic import BaseModel, ConfigDict
from pydantic_core import to_json

__all__ = ["Input", "Limits", "Operation"]

MIB: Final = 1024 * 1024
MAX_RESULT_BYTES: Final = 2 * MIB
"""No operation may return more: the topic of results takes 4 MiB, with all that is around a result."""

_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,63}")


class Input(BaseModel):
    """Base of input models: strict, frozen, no unknown fields."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one run may take. A caller may ask for more time than the default, up to the maximum."""

    default_timeout_ms: int = 30_000
    max_timeout_ms: int = 300_000
    memory_bytes: int = 512 * MIB
    max_result_bytes: int = MAX_RESULT_BYTES

    def __post_init__(self) -> None:
        if not 1 <= self.default_timeout_ms <= self.max_timeout_ms:
            raise ValueError("the default time limit must be positive and not beyond the maximum")
        if not self.memory_bytes >= MIB:
            raise ValueError("an operation cannot run with less than 1 MiB of memory")
        if not 1 <= self.max_result_bytes <= MAX_RESULT_BYTES:
            raise ValueError(f"a result can have 1 to {MAX_RESULT_BYTES} bytes")

    def timeout_ms(self, asked_ms: int | None) -> int:
        """The time limit of one run, given what its caller asked for, if anything."""
        return self.default_timeout_ms if asked_ms is None else max(1, min(asked_ms, self.max_timeout_ms))


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """A deterministic computation that clients can ask for.

    `run` gets a validated instance of `input_model` and returns what JSON can express; equal inputs must
    give equal results, on every machine. It runs in a process of its own, which ends after it unless the
    operation is `reusable`: then it promises that it leaves nothing in its process that a later task could
    notice. With `cheap_check` it promises that `input_model` checks 16 KiB of any JSON within some
    milliseconds, so that ingest need not ask another process. A new `version` says that results have changed.

    Raises:
        ValueError: the name is none, or the example does not fit the input model.
    """

    name: str
    description: str
    input_model: type[BaseModel]
    run: Callable[[Any], object]
    example: dict[str, Any]
    limits: Limits = field(default_factory=Limits)
    version: int = 1
    reusable: bool = False
    cheap_check: bool = False

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ValueError(
                f"{self.name!r} is no name: lower-case letters, digits and underscores, at most 64"
            )
        self.input_model.model_validate_json(to_json(self.example))

    def input_schema(self) -> dict[str, Any]:
        """JSON Schema of the input."""
        return self.input_model.model_json_schema()
