"""Exact integer matrices: product, power and determinant, without a rounding error."""

from typing import Annotated, Final, Literal, Self

from pydantic import Field, model_validator

from shared.operations.model import Input, Operation

__all__ = ["MATRIX"]

Row = Annotated[list[Annotated[int, Field(ge=-(2**53), le=2**53)]], Field(min_length=1, max_length=128)]
Rows = list[list[int]]

MAX_ENTRY_BITS: Final = 14_000
"""What still fits the 4300 digits that Python writes as text (`sys.get_int_max_str_digits`)."""


class Matrix(Input):
    """A matrix and what to do with it: `power` and `determinant` need a square one, `product` a second."""

    task: Literal["product", "power", "determinant"]
    matrix: list[Row] = Field(min_length=1, max_length=128)
    other: list[Row] | None = Field(default=None, max_length=128)
    exponent: int = Field(default=1, ge=0, le=4096)

    @model_validator(mode="after")
    def _shapes_fit(self) -> Self:
        for rows in (self.matrix, self.other or self.matrix):
            if len({len(row) for row in rows}) > 1:
                raise ValueError("the rows of a matrix must have the same length")
        if self.task == "product" and (not self.other or len(self.other) != len(self.matrix[0])):
            raise ValueError("product needs `other` with as many rows as `matrix` has columns")
        if self.task != "product" and len(self.matrix) != len(self.matrix[0]):
            raise ValueError(f"{self.task} needs a square matrix")
        if self.task == "power" and self.exponent * _growth_bits(self.matrix) > MAX_ENTRY_BITS:
            raise ValueError("the power may have numbers beyond 4200 digits; use a smaller exponent")
        return self


def _growth_bits(matrix: Rows) -> int:
    """By how many bits one more factor of `matrix` lengthens an entry at most."""
    return max(sum(abs(value) for value in row) for row in matrix).bit_length()


def _run(task: Matrix) -> dict[str, object]:
    match task.task:
        case "determinant":
            return {"determinant": str(_determinant(task.matrix))}
        case "power":
            return {"matrix": _as_text(_power(task.matrix, task.exponent))}
        case "product":
            return {"matrix": _as_text(_multiply(task.matrix, task.other or []))}


def _multiply(left: Rows, right: Rows) -> Rows:
    columns = list(zip(*right, strict=True))
    return [[sum(a * b for a, b in zip(row, column, strict=True)) for column in columns] for row in left]


def _power(matrix: Rows, exponent: int) -> Rows:
    """By repeated squaring."""
    result = [[int(row == column) for column in range(len(matrix))] for row in range(len(matrix))]
    square = matrix
    while exponent:
        if exponent & 1:
            result = _multiply(result, square)
        exponent >>= 1
        if exponent:
            square = _multiply(square, square)
    return result


def _determinant(matrix: Rows) -> int:
    """Bareiss' fraction-free elimination: every division is exact."""
    rows = [list(row) for row in matrix]
    sign, previous = 1, 1
    for pivot in range(len(rows) - 1):
        swap = next((row for row in range(pivot, len(rows)) if rows[row][pivot]), None)
        if swap is None:
            return 0
        if swap != pivot:
            rows[pivot], rows[swap] = rows[swap], rows[pivot]
            sign = -sign
        for row in range(pivot + 1, len(rows)):
            for column in range(pivot + 1, len(rows)):
                value = rows[row][column] * rows[pivot][pivot] - rows[row][pivot] * rows[pivot][column]
                rows[row][column] = value // previous
        previous = rows[pivot][pivot]
    return sign * rows[-1][-1]


def _as_text(rows: Rows) -> list[list[str]]:
    """Numbers as text: they may well exceed 64 bit."""
    return [[str(value) for value in row] for row in rows]


MATRIX = Operation(
    name="matrix",
    description="Exact product, power or determinant of integer matrices; numbers come back as text.",
    input_model=Matrix,
    run=_run,
    reusable=True,
    cheap_check=True,
    example={"task": "power", "matrix": [[1, 1], [1, 0]], "exponent": 90},
)
