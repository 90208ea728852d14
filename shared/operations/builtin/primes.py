"""Prime numbers in a range, by a segmented sieve of Eratosthenes."""

from math import isqrt
from typing import Final, Literal, Self

from pydantic import Field, model_validator

from shared.operations.model import Input, Operation

__all__ = ["PRIMES"]

SEGMENT: Final = 1 << 18
MAX_WIDTH: Final = 50_000_000
MAX_LISTED: Final = 100_000


class Primes(Input):
    """A range, both ends included, and what to tell of its primes."""

    start: int = Field(default=2, ge=0, le=10**12)
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
    primes = _primes(max(task.start, 2), task.stop)
    if task.want == "list" and len(primes) > MAX_LISTED:
        raise ValueError(
            f"{len(primes)} primes are too many to list, {MAX_LISTED} at most; ask for the count"
        )
    answer: dict[str, object] = {"count": len(primes)}
    if task.want == "sum":
        answer["sum"] = str(sum(primes))
    if task.want == "list":
        answer["primes"] = primes
    return answer


def _primes(start: int, stop: int) -> list[int]:
    base = _sieve(isqrt(max(stop, 0)))
    found: list[int] = []
    for low in range(start, stop + 1, SEGMENT):
        high = min(low + SEGMENT - 1, stop)
        flags = bytearray(b"\x01") * (high - low + 1)
        for prime in base:
            first = max(prime * prime, -(-low // prime) * prime)
            flags[first - low :: prime] = bytes(len(range(first - low, len(flags), prime)))
        found += [low + index for index, flag in enumerate(flags) if flag]
    return found


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
    example={"start": 0, "stop": 100000, "want": "count"},
)
