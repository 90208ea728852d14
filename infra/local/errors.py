"""What a person has to mend."""

__all__ = ["LocalError"]


class LocalError(Exception):
    """The local system cannot do what was asked; the message says what happened and what to do next."""
