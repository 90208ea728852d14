"""Work whose results are known beforehand: the same seed gives the same jobs, and each is recomputed here."""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, Self

import orjson

from shared.domain.types import Mode
from shared.operations.registry import load_registry
from shared.operations.results import encode_result

__all__ = ["MAKERS", "Job", "Told", "jobs"]

WORDS: Final = ("log", "offset", "Größe", "tier", "naïve", "leader", "東京", "epoch", "replica", "fence")


COMPUTED: Final = 512
"""Results that are kept: those of dear inputs, which come again and again."""


@dataclass(frozen=True, slots=True)
class Told:
    """An outcome as somebody was told of it: a result, as parsed JSON, or the code of an error."""

    status: str
    result: object = None
    code: str | None = None

    @classmethod
    def by(cls, body: Any) -> Self:  # noqa: ANN401 - parsed JSON
        """What an answer or a callback says."""
        return cls(body["status"], body.get("result"), (body.get("error") or {}).get("code"))


@dataclass(frozen=True)
class Job:
    """One request to be made. `reference` is unique within a drill.

    `failure` is the code of the error that it must end with. `known` is the result of an operation that only
    the services have; any other is computed here. `callback` is the query of the callback's URL: what the
    receiver does with it; `refused` says that this makes the callback a dead letter.
    """

    reference: str
    mode: Mode
    operation: str
    input: dict[str, Any]
    timeout_s: float | None = None
    failure: str | None = None
    known: object = None
    callback: tuple[tuple[str, str], ...] = ()
    refused: bool = False

    @property
    def expected(self) -> Told:
        """The outcome that it must have."""
        if self.failure is not None:
            return Told("failed", code=self.failure)
        if self.known is not None:
            return Told("succeeded", self.known)
        return Told("succeeded", orjson.loads(_computed(self.operation, orjson.dumps(self.input))))

    def body(self) -> dict[str, Any]:
        """The request without its name and its callback."""
        limit = {} if self.timeout_s is None else {"timeout": self.timeout_s}
        return {"operation": self.operation, "input": self.input, **limit}


@lru_cache(maxsize=COMPUTED)
def _computed(name: str, input_json: bytes) -> bytes:
    """The result, computed in this process, as canonical JSON."""
    registry = load_registry()
    operation = registry.get(name)
    return encode_result(operation.run(registry.parse(name, input_json)), operation.limits.max_result_bytes)


def jobs(prefix: str, count: int, *, mode: Mode, seed: int = 0) -> Iterator[Job]:
    """`count` jobs of all built-in operations in turn, each a few milliseconds at most."""
    draw = random.Random(f"{seed}-{prefix}")  # noqa: S311 - repeatable, not secret
    for number in range(count):
        operation, make = MAKERS[number % len(MAKERS)]
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


MAKERS: Final[tuple[tuple[str, Callable[[random.Random], dict[str, Any]]], ...]] = (
    ("hash_chain", _hash_chain),
    ("primes", _primes),
    ("value_at_risk", _value_at_risk),
    ("text_statistics", _text_statistics),
    ("mandelbrot_tile", _mandelbrot_tile),
    ("matrix", _matrix),
)
