"""What an operation is: a name, an input model, a pure function, limits and an example."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from pydantic import BaseModel, ConfigDict

__all__ = ["Input", "Limits", "Operation"]

MIB: Final = 1024 * 1024


class Input(BaseModel):
    """Base of input models: strict, frozen, no unknown fields."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one run may take. A caller may ask for more time than the default, up to the maximum."""

    default_timeout_ms: int = 30_000
    max_timeout_ms: int = 300_000
    memory_bytes: int = 512 * MIB
    max_result_bytes: int = 2 * MIB


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """A deterministic computation that clients can ask for.

    `run` gets a validated instance of `input_model` and returns what JSON can express; equal inputs must
    give equal results, on every machine. It runs in a process of its own.
    """

    name: str
    description: str
    input_model: type[BaseModel]
    run: Callable[[Any], object]
    example: dict[str, Any]
    limits: Limits = field(default_factory=Limits)
