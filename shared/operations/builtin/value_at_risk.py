"""Value at risk and expected shortfall of a portfolio, by a seeded Monte-Carlo simulation."""

import math
from collections.abc import Iterator
from random import Random
from typing import Annotated, Final, Self

from pydantic import Field, model_validator

from shared.operations.builtin.portable_math import exp, normal_quantile
from shared.operations.model import Input, Operation

__all__ = ["VALUE_AT_RISK"]

DIGITS: Final = 6
NEVER_ZERO: Final = 2.0**-54
"""Stands for the one number in 2**53 of which no quantile can be taken."""


class Position(Input):
    """One holding: its value today, and mean and deviation of its yearly return."""

    value: float = Field(ge=-1e12, le=1e12)
    drift: float = Field(default=0.0, ge=-1, le=1)
    volatility: float = Field(gt=0, le=5)


class ValueAtRisk(Input):
    """Holdings with one common correlation, the horizon in trading days, and how much to simulate."""

    positions: Annotated[list[Position], Field(min_length=1, max_length=100)]
    correlation: float = Field(default=0.0, ge=0, lt=1)
    days: int = Field(default=10, ge=1, le=252)
    confidence: float = Field(default=0.99, ge=0.5, le=0.9999)
    scenarios: int = Field(default=10_000, ge=100, le=2_000_000)
    seed: int = Field(default=0, ge=0, le=2**53)

    @model_validator(mode="after")
    def _bounded(self) -> Self:
        if self.scenarios * len(self.positions) > 20_000_000:
            raise ValueError("scenarios times positions may be 20,000,000 at most")
        return self


def _run(task: ValueAtRisk) -> dict[str, object]:
    losses = sorted(_losses(task), reverse=True)
    tail = losses[: max(1, round(len(losses) * (1 - task.confidence)))]
    return {
        "value_at_risk": round(tail[-1], DIGITS),
        "expected_shortfall": round(math.fsum(tail) / len(tail), DIGITS),
        "worst_loss": round(losses[0], DIGITS),
        "mean_loss": round(math.fsum(losses) / len(losses), DIGITS),
        "scenarios": task.scenarios,
    }


def _losses(task: ValueAtRisk) -> list[float]:
    """Losses under geometric Brownian motion with one common factor."""
    normal = _standard_normal(task.seed)
    years = task.days / 252
    common, own = math.sqrt(task.correlation), math.sqrt(1 - task.correlation)
    steps = [
        (each.value, (each.drift - each.volatility**2 / 2) * years, each.volatility * math.sqrt(years))
        for each in task.positions
    ]
    losses: list[float] = []
    for _ in range(task.scenarios):
        market = common * next(normal)
        losses.append(
            math.fsum(
                value * (1 - exp(mean + spread * (market + own * next(normal))))
                for value, mean, spread in steps
            )
        )
    return losses


def _standard_normal(seed: int) -> Iterator[float]:
    """Normal numbers by inversion, from the sequence of `random()` that Python promises to keep."""
    uniform = Random(seed).random  # noqa: S311 - reproducible on purpose
    while True:
        yield normal_quantile(uniform() or NEVER_ZERO)


VALUE_AT_RISK = Operation(
    name="value_at_risk",
    description="Value at risk and expected shortfall of a portfolio, by a seeded Monte-Carlo simulation.",
    input_model=ValueAtRisk,
    run=_run,
    reusable=True,
    cheap_check=True,
    example={
        "positions": [{"value": 1000000.0, "volatility": 0.2}, {"value": 500000.0, "volatility": 0.35}],
        "correlation": 0.3,
        "scenarios": 5000,
        "seed": 7,
    },
)
