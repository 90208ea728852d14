"""Work whose results are known beforehand: the same seed gives the same jobs, and each is recomputed here."""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import orjson

from shared.domain.types import Mode
from shared.operations.registry import load_registry
from shared.operations.results import encode_result

__all__ = ["Job", "jobs"]

WORDS: Final = ("log", "offset", "Größe", "tier", "naïve", "leader", "東京", "epoch", "replica", "fence")


@dataclass(frozen=True)
class Job:
    """One request to be made. `reference` is unique within a drill."""

    reference: str
    mode: Mode
    operation: str
    input: dict[str, Any]

    @cached_property
    def expected(self) -> bytes:
        """The result, computed in this process, as canonical JSON."""
        registry = load_registry()
        operation = registry.get(self.operation)
        result = operation.run(registry.parse(self.operation, orjson.dumps(self.input)))
        return encode_result(result, operation.limits.max_result_bytes)

    def is_result(self, answer: object) -> bool:
        """Whether `answer`, parsed JSON, is the expected result."""
        return bool(answer == orjson.loads(self.expected))


def jobs(prefix: str, count: int, *, mode: Mode, seed: int = 0) -> Iterator[Job]:
    """`count` jobs of all built-in operations in turn, each a few milliseconds at most."""
    draw = random.Random(f"{seed}-{prefix}")  # noqa: S311 - repeatable, not secret
    for number in range(count):
        operation, make = _MAKERS[number % len(_MAKERS)]
        yield Job(f"{prefix}-{number}", mode, operation, make(draw))


def _hash_chain(draw: random.Random) -> dict[str, Any]:
    return {"seed": f"{draw.random()}", "rounds": draw.randint(1, 2_000)}


def _primes(draw: random.Random) -> dict[str, Any]:
    start = draw.randint(0, 10**6)
    return {"start": start, "stop": start + draw.randint(0, 2_000), "want": draw.choice(("count", "list"))}


def _value_at_risk(draw: random.Random) -> dict[str, Any]:
    positions = [
        {"value": draw.uniform(-1e6, 1e6), "volatility": draw.uniform(0.1, 0.5)}
        for _ in range(draw.randint(1, 3))
    ]
    return {"positions": positions, "scenarios": 100, "seed": draw.randint(0, 2**53)}


def _text_statistics(draw: random.Random) -> dict[str, Any]:
    return {"text": " ".join(draw.choices(WORDS, k=draw.randint(0, 200))), "top": 5}


def _mandelbrot_tile(draw: random.Random) -> dict[str, Any]:
    return {
        "center_re": draw.uniform(-2, 1),
        "center_im": draw.uniform(-1, 1),
        "width": draw.uniform(0.01, 2),
        "pixels": draw.randint(1, 8),
        "iterations": 50,
    }


def _matrix(draw: random.Random) -> dict[str, Any]:
    size = draw.randint(1, 6)
    matrix = [[draw.randint(-9, 9) for _ in range(size)] for _ in range(size)]
    return {"task": draw.choice(("power", "determinant")), "matrix": matrix, "exponent": draw.randint(0, 9)}


_MAKERS: Final[tuple[tuple[str, Callable[[random.Random], dict[str, Any]]], ...]] = (
    ("hash_chain", _hash_chain),
    ("primes", _primes),
    ("value_at_risk", _value_at_risk),
    ("text_statistics", _text_statistics),
    ("mandelbrot_tile", _mandelbrot_tile),
    ("matrix", _matrix),
)
