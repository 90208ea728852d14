"""What each operation computes, against another way to compute it."""

import hashlib
import json
import math
import statistics
from fractions import Fraction
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.operations.builtin.portable_math import exp, log, normal_quantile
from shared.operations.registry import InvalidInputError, load_registry


def compute(name: str, **data: object) -> Any:  # noqa: ANN401 - each operation returns its own
    registry = load_registry()
    return registry.get(name).run(registry.parse(name, json.dumps(data).encode()))


@given(seed=st.text(max_size=50), rounds=st.integers(1, 5))
def test_a_hash_chain_is_the_hash_of_the_chain_before(seed: str, rounds: int) -> None:
    longer = compute("hash_chain", seed=seed, rounds=rounds + 1)["digest"]
    shorter = compute("hash_chain", seed=seed, rounds=rounds)["digest"]
    assert longer == hashlib.sha256(bytes.fromhex(shorter)).hexdigest()


@given(start=st.integers(0, 5000), width=st.integers(0, 500))
def test_primes_are_what_has_no_divisor(start: int, width: int) -> None:
    wanted = [
        number
        for number in range(max(start, 2), start + width + 1)
        if all(number % divisor for divisor in range(2, math.isqrt(number) + 1))
    ]
    told = compute("primes", start=start, stop=start + width, want="list")
    assert told == {"count": len(wanted), "primes": wanted}
    assert compute("primes", start=start, stop=start + width, want="sum")["sum"] == str(sum(wanted))
    assert compute("primes", start=start, stop=start + width) == {"count": len(wanted)}


matrices = st.integers(1, 5).flatmap(
    lambda size: st.lists(
        st.lists(st.integers(-50, 50), min_size=size, max_size=size), min_size=size, max_size=size
    )
)


@given(matrix=matrices)
def test_a_determinant_is_that_of_gaussian_elimination(matrix: list[list[int]]) -> None:
    assert int(compute("matrix", task="determinant", matrix=matrix)["determinant"]) == _determinant(matrix)


@given(matrix=matrices, exponent=st.integers(1, 6))
def test_a_power_is_a_product_of_powers(matrix: list[list[int]], exponent: int) -> None:
    def product(left: list[list[int]], right: list[list[int]]) -> list[list[int]]:
        return _numbers(compute("matrix", task="product", matrix=left, other=right))

    def power(times: int) -> list[list[int]]:
        return _numbers(compute("matrix", task="power", matrix=matrix, exponent=times))

    assert product(power(exponent - 1), matrix) == power(exponent)


def _numbers(result: Any) -> list[list[int]]:  # noqa: ANN401 - as above
    return [[int(value) for value in row] for row in result["matrix"]]


def _determinant(matrix: list[list[int]]) -> Fraction:
    rows = [[Fraction(value) for value in row] for row in matrix]
    result = Fraction(1)
    for pivot in range(len(rows)):
        swap = next((row for row in range(pivot, len(rows)) if rows[row][pivot]), None)
        if swap is None:
            return Fraction(0)
        if swap != pivot:
            rows[pivot], rows[swap] = rows[swap], rows[pivot]
            result = -result
        result *= rows[pivot][pivot]
        for row in rows[pivot + 1 :]:
            factor = row[pivot] / rows[pivot][pivot]
            row[:] = [below - factor * above for below, above in zip(row, rows[pivot], strict=True)]
    return result


def test_a_power_whose_numbers_have_no_room_is_refused_before_it_runs() -> None:
    with pytest.raises(InvalidInputError, match="4200 digits"):
        compute("matrix", task="power", matrix=[[2**53] * 128] * 128, exponent=4096)


def test_value_at_risk_comes_near_the_formula_for_one_position() -> None:
    told = compute(
        "value_at_risk",
        positions=[{"value": 1000, "volatility": 0.2}],
        days=252,
        confidence=0.95,
        scenarios=50_000,
        seed=3,
    )
    quantile = statistics.NormalDist().inv_cdf(0.05)
    exact = 1000 * (1 - math.exp(-0.02 + 0.2 * quantile))
    assert told["value_at_risk"] == pytest.approx(exact, rel=0.02)
    assert told["worst_loss"] >= told["expected_shortfall"] >= told["value_at_risk"]


def test_value_at_risk_depends_on_its_seed_alone() -> None:
    data: dict[str, object] = {"positions": [{"value": 1, "volatility": 1}], "scenarios": 100}
    assert compute("value_at_risk", **data, seed=1) == compute("value_at_risk", **data, seed=1)
    assert compute("value_at_risk", **data, seed=1) != compute("value_at_risk", **data, seed=2)


def test_words_are_counted_as_a_person_would() -> None:
    told = compute(
        "text_statistics", text="Don't stop -- don\u2019t! Well-known ΣΊΣΥΦΟΣ, e\u0301. DON'T?", top=2
    )
    assert told["words"] == 7
    assert told["top_words"] == [{"word": "don't", "count": 2}, {"word": "don\u2019t", "count": 1}]
    assert told["sentences"] == 3
    assert told["longest_word"] == "well-known"


@given(text=st.text(max_size=200))
def test_text_statistics_take_any_text(text: str) -> None:
    told = compute("text_statistics", text=text, top=1000)
    assert sum(entry["count"] for entry in told["top_words"]) == told["words"]
    counts = [entry["count"] for entry in told["top_words"]]
    assert all(more >= less for more, less in pairwise(counts))
    assert told["entropy_bits_per_character"] >= 0


@given(re=st.floats(-2, 2), im=st.floats(-2, 2))
@settings(max_examples=50)
def test_one_pixel_escapes_when_its_orbit_does(re: float, im: float) -> None:
    told = compute("mandelbrot_tile", center_re=re, center_im=im, width=1e-3, pixels=1, iterations=60)
    orbit, stays = 0j, True
    for _ in range(60):
        stays = stays and abs(orbit) <= 2
        orbit = orbit * orbit + complex(re, im) if stays else orbit
    assert told["inside"] in ({0, 1} if 1.999 < abs(orbit) < 2.001 else {int(stays)})


@given(x=st.floats(-700, 700))
def test_exp_is_that_of_the_library_but_for_the_last_place(x: float) -> None:
    assert exp(x) == pytest.approx(math.exp(x), rel=1e-15)


@given(x=st.floats(1e-300, 1e300))
def test_log_is_that_of_the_library_but_for_the_last_place(x: float) -> None:
    assert log(x) == pytest.approx(math.log(x), rel=1e-15, abs=2.3e-16)


@given(p=st.floats(2**-54, 1 - 2**-53))
def test_the_normal_quantile_is_that_of_the_library(p: float) -> None:
    assert normal_quantile(p) == pytest.approx(statistics.NormalDist().inv_cdf(p), rel=1e-13, abs=1e-15)
