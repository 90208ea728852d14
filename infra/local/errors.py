"""What a person has to mend."""

from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["LocalError", "first_error"]


class LocalError(Exception):
    """The local system cannot do what was asked; the message says what happened and what to do next."""


@contextmanager
def first_error() -> Iterator[None]:
    """Around a task group: what ends it is raised as itself, a `LocalError` before an `OSError`.

    A group that holds anything else stays whole. `except*` cannot do that: before Python 3.11.4 whatever is
    raised in it comes out in a group again.
    """
    try:
        yield
    except ExceptionGroup as group:
        _, unexpected = group.split((LocalError, OSError))
        if unexpected is not None:
            raise
        raise (group.subgroup(LocalError) or group).exceptions[0] from None
