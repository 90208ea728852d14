"""Functions whose result is the same to the last bit on every machine.

The C library's differ in the last place between systems and versions. These use only what IEEE 754 defines
exactly: sums, products, quotients, and scaling by powers of two.
"""

import math
from typing import Final

__all__ = ["exp", "log", "normal_quantile"]

LN2_HIGH: Final = 6.93147180369123816490e-01
LN2_LOW: Final = 1.90821492927058770002e-10
"""Their sum is ln 2; the first has 20 trailing zero bits, so a small multiple of it is exact (fdlibm)."""

SQRT_HALF: Final = 0.7071067811865476
EXP_TERMS: Final = tuple(1.0 / math.factorial(power) for power in range(14, -1, -1))
LOG_TERMS: Final = tuple(1.0 / odd for odd in range(23, 0, -2))


def exp(x: float) -> float:
    """E to the power of `x`, to about one unit in the last place, for |x| up to 700."""
    doublings = round(x / (LN2_HIGH + LN2_LOW))
    rest = (x - doublings * LN2_HIGH) - doublings * LN2_LOW
    return math.ldexp(_polynomial(EXP_TERMS, rest), doublings)


def log(x: float) -> float:
    """The natural logarithm of a positive number, to about one unit in the last place."""
    fraction, exponent = math.frexp(x)
    if fraction < SQRT_HALF:
        fraction, exponent = fraction * 2.0, exponent - 1
    ratio = (fraction - 1.0) / (fraction + 1.0)
    series = 2.0 * ratio * _polynomial(LOG_TERMS, ratio * ratio)
    return exponent * LN2_HIGH + (exponent * LN2_LOW + series)


def normal_quantile(p: float) -> float:
    """The point below which a standard normal number falls with probability `p`, 0 < p < 1.

    M. J. Wichura's AS 241 (Applied Statistics 37, 1988), good to 16 digits.
    """
    distance = p - 0.5
    if abs(distance) <= 0.425:
        return _ratio(CENTRE, 0.180625 - distance * distance) * distance
    tail = math.sqrt(-log(p if distance < 0 else 1.0 - p))
    size = _ratio(MIDDLE, tail - 1.6) if tail <= 5.0 else _ratio(FAR, tail - 5.0)
    return -size if distance < 0 else size


def _polynomial(coefficients: tuple[float, ...], x: float) -> float:
    """By Horner's rule, highest power first."""
    total = 0.0
    for coefficient in coefficients:
        total = total * x + coefficient
    return total


def _ratio(terms: tuple[tuple[float, ...], tuple[float, ...]], x: float) -> float:
    above, below = terms
    return _polynomial(above, x) / _polynomial(below, x)


CENTRE: Final = (
    (
        2.5090809287301226727e3,
        3.3430575583588128105e4,
        6.7265770927008700853e4,
        4.5921953931549871457e4,
        1.3731693765509461125e4,
        1.9715909503065514427e3,
        1.3314166789178437745e2,
        3.3871328727963666080e0,
    ),
    (
        5.2264952788528545610e3,
        2.8729085735721942674e4,
        3.9307895800092710610e4,
        2.1213794301586595867e4,
        5.3941960214247511077e3,
        6.8718700749205790830e2,
        4.2313330701600911252e1,
        1.0,
    ),
)
MIDDLE: Final = (
    (
        7.74545014278341407640e-4,
        2.27238449892691845833e-2,
        2.41780725177450611770e-1,
        1.27045825245236838258e0,
        3.64784832476320460504e0,
        5.76949722146069140550e0,
        4.63033784615654529590e0,
        1.42343711074968357734e0,
    ),
    (
        1.05075007164441684324e-9,
        5.47593808499534494600e-4,
        1.51986665636164571966e-2,
        1.48103976427480074590e-1,
        6.89767334985100004550e-1,
        1.67638483018380384940e0,
        2.05319162663775882187e0,
        1.0,
    ),
)
FAR: Final = (
    (
        2.01033439929228813265e-7,
        2.71155556874348757815e-5,
        1.24266094738807843860e-3,
        2.65321895265761230930e-2,
        2.96560571828504891230e-1,
        1.78482653991729133580e0,
        5.46378491116411436990e0,
        6.65790464350110377720e0,
    ),
    (
        2.04426310338993978564e-15,
        1.42151175831644588870e-7,
        1.84631831751005468180e-5,
        7.86869131145613259100e-4,
        1.48753612908506148525e-2,
        1.36929880922735805310e-1,
        5.99832206555887937690e-1,
        1.0,
    ),
)
