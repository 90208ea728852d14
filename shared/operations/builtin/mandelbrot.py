"""One tile of the Mandelbrot set, as escape times in rows of text."""

from base64 import b64encode
from hashlib import sha256
from struct import pack

from pydantic import Field

from shared.operations.model import Input, Operation

__all__ = ["MANDELBROT_TILE"]


class MandelbrotTile(Input):
    """Centre and width in the complex plane, size in pixels, and when a point counts as inside."""

    center_re: float = Field(ge=-4, le=4)
    center_im: float = Field(ge=-4, le=4)
    width: float = Field(gt=1e-13, le=8)
    pixels: int = Field(default=64, ge=1, le=512)
    iterations: int = Field(default=100, ge=1, le=60_000)


def _run(task: MandelbrotTile) -> dict[str, object]:
    step = task.width / task.pixels
    left = task.center_re - task.width / 2 + step / 2
    top = task.center_im + task.width / 2 - step / 2
    times = [
        _escape_time(left + column * step, top - row * step, task.iterations)
        for row in range(task.pixels)
        for column in range(task.pixels)
    ]
    data = pack(f"<{len(times)}H", *times)
    return {
        "pixels": task.pixels,
        "inside": sum(1 for time in times if time == task.iterations),
        "encoding": "base64 of unsigned 16-bit little-endian escape times, row by row",
        "data": b64encode(data).decode(),
        "sha256": sha256(data).hexdigest(),
    }


def _escape_time(re: float, im: float, iterations: int) -> int:
    """Iterations of z*z + c until |z| exceeds 2; only additions and products, so equal everywhere."""
    x = y = x2 = y2 = 0.0
    for count in range(iterations):
        if x2 + y2 > 4.0:
            return count
        y = 2.0 * x * y + im
        x = x2 - y2 + re
        x2, y2 = x * x, y * y
    return iterations


MANDELBROT_TILE = Operation(
    name="mandelbrot_tile",
    description="Escape times of the points of one square tile of the Mandelbrot set.",
    input_model=MandelbrotTile,
    run=_run,
    reusable=True,
    cheap_check=True,
    example={"center_re": -0.75, "center_im": 0.1, "width": 0.05, "pixels": 32, "iterations": 200},
)
