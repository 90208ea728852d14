"""Inputs whose results are kept, for each operation its example among them."""

from typing import Any, Final

from shared.operations.registry import load_registry

__all__ = ["CASES"]

TEXT: Final = (
    "It was the best of times, it was the worst of times… Don't panic! Größe, ΣΊΣΥΦΟΣ, "
    "well-known words -- and 3.14; naïve e\u0301clair.\r\nЖизнь прекрасна? 東京 は 大きい。 \U0001f600"
)

CASES: Final[dict[str, tuple[str, dict[str, Any]]]] = {
    f"{operation.name}-example": (operation.name, operation.example) for operation in load_registry().all()
} | {
    "hash_chain-once": ("hash_chain", {"seed": ""}),
    "hash_chain-many": ("hash_chain", {"seed": "Größe", "rounds": 12345}),
    "primes-none": ("primes", {"stop": 1, "want": "list"}),
    "primes-list": ("primes", {"start": 2, "stop": 100, "want": "list"}),
    "primes-far": ("primes", {"start": 999_999_000_000, "stop": 999_999_000_500, "want": "list"}),
    "primes-sum": ("primes", {"stop": 2_000_000, "want": "sum"}),
    "primes-across-segments": ("primes", {"start": 1_048_000, "stop": 2_098_000}),
    "value_at_risk-one-position": (
        "value_at_risk",
        {"positions": [{"value": 1e12, "drift": 0.05, "volatility": 0.9}], "scenarios": 2000, "days": 252},
    ),
    "value_at_risk-short-and-correlated": (
        "value_at_risk",
        {
            "positions": [
                {"value": -250000, "volatility": 0.4},
                {"value": 1e6, "drift": -0.1, "volatility": 0.15},
                {"value": 12.5, "volatility": 5},
            ],
            "correlation": 0.95,
            "days": 1,
            "confidence": 0.9999,
            "scenarios": 5000,
            "seed": 9007199254740992,
        },
    ),
    "text_statistics-mixed": ("text_statistics", {"text": TEXT, "top": 5}),
    "text_statistics-empty": ("text_statistics", {"text": ""}),
    "mandelbrot_tile-whole": (
        "mandelbrot_tile",
        {"center_re": -0.5, "center_im": 0, "width": 3, "pixels": 24, "iterations": 50},
    ),
    "mandelbrot_tile-deep": (
        "mandelbrot_tile",
        {
            "center_re": -0.743643887037151,
            "center_im": 0.13182590420533,
            "width": 1e-11,
            "pixels": 8,
            "iterations": 5000,
        },
    ),
    "matrix-product": (
        "matrix",
        {"task": "product", "matrix": [[1, 2, 3], [4, 5, 6]], "other": [[7, 8], [9, 10], [11, 12]]},
    ),
    "matrix-determinant": (
        "matrix",
        {"task": "determinant", "matrix": [[0, 2, 3], [4, 5, 6], [7, 8, -(2**53)]]},
    ),
    "matrix-power-zero": ("matrix", {"task": "power", "matrix": [[3, 1], [4, 1]], "exponent": 0}),
    "matrix-power-huge": ("matrix", {"task": "power", "matrix": [[1, 1], [1, 0]], "exponent": 4096}),
}
