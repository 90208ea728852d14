"""The operations that come with consuma."""

from shared.operations.builtin.hash_chain import HASH_CHAIN
from shared.operations.builtin.mandelbrot import MANDELBROT_TILE
from shared.operations.builtin.matrix import MATRIX
from shared.operations.builtin.primes import PRIMES
from shared.operations.builtin.text_statistics import TEXT_STATISTICS
from shared.operations.builtin.value_at_risk import VALUE_AT_RISK

__all__ = ["BUILTIN_OPERATIONS"]

BUILTIN_OPERATIONS = (HASH_CHAIN, MANDELBROT_TILE, MATRIX, PRIMES, TEXT_STATISTICS, VALUE_AT_RISK)
