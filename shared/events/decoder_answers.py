"""Parts of what decoder processes answer."""

from typing import Self

import msgspec

from shared.events.request_data import FieldProblem

__all__ = ["Excerpt", "Fault", "Refused"]


class Excerpt(msgspec.Struct, frozen=True):
    """A part of a question's body in an answer: where it lies, or the bytes themselves if it lies nowhere."""

    at: int
    size: int
    text: bytes = b""

    @classmethod
    def of(cls, text: bytes | memoryview, body: bytes) -> Self:
        """Any place will do that holds the same bytes."""
        at = body.find(text)
        return cls(at, len(text), bytes(text) if at < 0 else b"")

    def view(self, body: bytes) -> memoryview:
        """The part itself, of the same body."""
        return memoryview(self.text) if self.at < 0 else memoryview(body)[self.at : self.at + self.size]


class Refused(msgspec.Struct, frozen=True, kw_only=True, tag="refused"):
    """An answer: what was asked about is wrong, and how."""

    reason: str
    message: str
    fields: tuple[FieldProblem, ...]


class Fault(msgspec.Struct, frozen=True, kw_only=True, tag="fault"):
    """An answer: an exception that is not the asker's fault."""

    error: str

    @classmethod
    def of(cls, error: Exception) -> Self:
        """As much of it as a log line takes."""
        return cls(error=ascii(error)[:1_000])
