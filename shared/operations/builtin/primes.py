"""Prime numbers in a range, by a segmented sieve of Eratosthenes."""

from collections.abc import Iterator
from itertools import compress
from math import isqrt
from typing import Final, Literal, Self

from pydantic import Field, model_validator

from shared.operations.model import Input, Operation

__all__ = ["PRIMES"]

SEGMENT: Final = 1 << 20
MAX_WIDTH: Final = 50_000_000
MAX_LISTED: Final = 100_000


class Primes(Input):
    """A range, both ends included, and what to tell of its primes."""

    start: int = Field(default=0, ge=0, le=10**12)
    stop: int = Field(ge=0, le=10**12)
    want: Literal["count", "sum", "list"] = "count"

    @model_validator(mode="after")
    def _bounded(self) -> Self:
        if self.stop < self.start:
            raise ValueError("stop must not be below start")
        if self.stop - self.start > MAX_WIDTH:
            raise ValueError(f"the range may span {MAX_WIDTH} numbers at most")
        return self


def _run(task: Primes) -> dict[str, object]:
    start = max(task.start, 2)
    match task.want:
        case "count":
            return {"count": sum(flags.count(1) for _, flags in _segments(start, task.stop))}
        case "sum":
            return _sum(start, task.stop)
        case "list":
            return _list(start, task.stop)


def _sum(start: int, stop: int) -> dict[str, object]:
    """The sum as text: it may exceed 64 bit."""
    count = total = 0
    for numbers, flags in _segments(start, stop):
        count += flags.count(1)
        total += sum(compress(numbers, flags))
    return {"count": count, "sum": str(total)}


def _list(start: int, stop: int) -> dict[str, object]:
    primes: list[int] = []
    for numbers, flags in _segments(start, stop):
        primes.extend(compress(numbers, flags))
        if len(primes) > MAX_LISTED:
            raise ValueError(f"more than {MAX_LISTED} primes are in the range; ask for their count or sum")
    return {"count": len(primes), "primes": primes}


def _segments(start: int, stop: int) -> Iterator[tuple[range, bytearray]]:
    """Ranges of numbers, and for each number whether it is prime."""
    base = _sieve(isqrt(max(stop, 0)))
    for low in range(start, stop + 1, SEGMENT):
        numbers = range(low, min(low + SEGMENT, stop + 1))
        flags = bytearray(b"\x01") * len(numbers)
        for prime in base:
            first = max(prime * prime, -(-low // prime) * prime) - low
            flags[first::prime] = bytes(len(range(first, len(flags), prime)))
        yield numbers, flags


def _sieve(limit: int) -> list[int]:
    flags = bytearray(b"\x01") * (limit + 1)
    flags[:2] = bytes(min(2, limit + 1))
    for number in range(2, isqrt(limit) + 1):
        if flags[number]:
            flags[number * number :: number] = bytes(len(range(number * number, limit + 1, number)))
    return [number for number, flag in enumerate(flags) if flag]


PRIMES = Operation(
    name="primes",
    description="Count, sum or list of the prime numbers in a range.",
    input_model=Primes,
    run=_run,
    reusable=True,
    cheap_check=True,
    example={"start": 0, "stop": 100000, "want": "count"},
)
